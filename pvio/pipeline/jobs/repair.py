"""Recompute entries that are lost or damaged where they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pvio.config.settings import Settings
from pvio.errors import LostEntry
from pvio.layout import Stage
from pvio.pipeline.planning.manifest import Failures, Receipt, ShardPlan, failures_in

logger = logging.getLogger(__name__)

# Each repair finds at least one entry that was not known to be damaged.
_MOST_REPAIRS = 1000

Result = TypeVar("Result")
Compute = Callable[[ShardPlan, Failures], Receipt]


def repairing(
    shard_plans: Callable[[Stage], Iterable[ShardPlan]],
    settings: Settings,
    compute: Mapping[Stage, Compute],
    step: Callable[[Failures], Result],
    failures: Failures,
) -> Result:
    """Run a step that reads entries; recompute missing entries and run it again.

    Args:
        shard_plans: of a stage, with the segments that the step reads.
        settings: `output` matters.
        compute: by stage, a function that computes a shard, called with its plan and with the
            segments that have no result.
        step: called with the segments that have no result; raises `LostEntry` when it lacks an
            entry of another one.
        failures: segments that have no result. Those that fail here are added for the next try.

    Raises:
        LostEntry: when entries are lost repeatedly.
        PvioError: as `step` and the stages.
    """
    for _ in range(_MOST_REPAIRS):
        try:
            return step(failures)
        except LostEntry as error:
            logger.warning("%s; it is computed again", error)
            kind = error.kind
        # Segments that failed before are left to the next run.
        for stage in settings.output.stages:
            receipts = [compute[stage](plan, failures) for plan in shard_plans(stage)]
            failures = failures_in(receipts) | failures
            if kind in settings.output.kinds_of(stage):
                break
    return step(failures)
