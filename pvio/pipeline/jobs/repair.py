"""Entries that are lost or damaged are computed again where they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from pvio.config.settings import Settings
from pvio.errors import LostEntry
from pvio.layout import Stage
from pvio.pipeline.planning.manifest import Failures, Part, Receipt, failures_in
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import infer

log = logging.getLogger(__name__)

# Each finds at least one entry that is damaged and was not known to be.
_MOST_REPAIRS = 1000

Result = TypeVar("Result")


def repairing(
    parts: Callable[[Stage], Iterable[Part]],
    settings: Settings,
    step: Callable[[Failures], Result],
    failures: Failures,
) -> Result:
    """Do a step that reads entries, and do it again once those that it lacks are computed.

    Args:
        parts: of the plan, whose segments the step reads; of infer, and of encode.
        settings: of the run.
        step: called with the segments that have no result; raises `LostEntry` when it lacks an
            entry of another one.
        failures: segments that have no result. Those that fail here are added for the next try.

    Raises:
        LostEntry: when entries are lost again and again.
        PvioError: as `step`, `infer` and `encode`.
    """
    for _ in range(_MOST_REPAIRS):
        try:
            return step(failures)
        except LostEntry as error:
            log.warning("%s; it is computed again", error)
            kind = error.kind
        # What failed before is not tried again: the next run does.
        receipts: list[Receipt] = [
            infer(part, settings, failures=failures) for part in parts("infer")
        ]
        failures = failures_in(receipts) | failures
        if kind == "video" and settings.output.video == "overlay":
            receipts = [encode(part, settings, failures) for part in parts("encode")]
            failures = failures_in(receipts) | failures
    return step(failures)
