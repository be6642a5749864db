"""Entries that are lost or damaged are computed again where they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from pvio.config import Settings
from pvio.errors import LostEntry
from pvio.manifest import Plan
from pvio.stages.encode import encode
from pvio.stages.infer import infer

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def repairing(plan: Plan, settings: Settings, step: Callable[[], Result]) -> Result:
    """Do a step that reads entries, and do it again once those that it lacks are computed.

    Args:
        plan: the manifest.
        settings: of the run.
        step: raises `LostEntry` when it lacks one.

    Raises:
        LostEntry: when entries are lost again and again.
        PvioError: as `step`, `infer` and `encode`.
    """
    for _ in range(len(plan.segments)):
        try:
            return step()
        except LostEntry as error:
            log.warning("%s; it is computed again", error)
            kind = error.kind
        for k in range(1, len(plan.infer) + 1):
            infer(plan, settings, f"{k}-of-{len(plan.infer)}")
        if kind == "video" and settings.output.video == "overlay":
            for k in range(1, len(plan.encode) + 1):
                encode(plan, settings, f"{k}-of-{len(plan.encode)}")
    return step()
