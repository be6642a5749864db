"""Ends a job in which every video fails alike."""

from __future__ import annotations

import re

from pvio.errors import FailedSegments
from pvio.pipeline.jobs.supervisor import Outcome
from pvio.pipeline.planning.manifest import ShardPlan

# After this many videos in a row fail alike, a job tries others.
_ENOUGH_FAILURES = 3


class FailureWatch:
    """Ends a job in which every video fails alike, as by a mistake in the model.

    When the first three videos fail alike, and no segment is finished, three others are tried next,
    spread over the remaining ones: neighboring videos may be of one kind, and only these may fail.
    If the others fail alike too, the job ends.

    Args:
        shard: the plan of the shard.
        has_results: whether segments of the shard were finished before.
    """

    def __init__(self, shard: ShardPlan, has_results: bool):
        self._shard = shard
        self._is_over = has_results
        self._reason = ""
        self._names: dict[int, str] = {}  # of the first failed segment of each video
        self._scouts: list[int] = []

    def add(self, outcome: Outcome) -> None:
        """Take note of a segment.

        Raises:
            FailedSegments: when continuing the job is pointless.
        """
        if self._is_over or outcome.kind not in ("done", "found", "failed"):
            return
        self._reason = self._reason or str(outcome.value)
        alike = without_numbers(str(outcome.value)) == without_numbers(self._reason)
        if outcome.kind != "failed" or not alike:
            self._is_over = True
            return
        video = self._shard.segments[outcome.task].video
        self._names.setdefault(video, segment_name(self._shard, outcome.task))
        if self._scouts and all(
            self._shard.segments[number].video in self._names for number in self._scouts
        ):
            names = list(self._names.values())
            raise FailedSegments(
                f"{self._shard.stage} {self._shard.shard} ends, since all of the first "
                f"{len(names)} videos fail alike: {names[0]} and {len(names) - 1} more: "
                f"{self._reason}\nFix the cause and run the same command again"
            )

    def scouts(self, todo: list[int]) -> list[int]:
        """Segments of `todo` to try next, if the first ones failed alike; usually none."""
        if self._is_over or self._scouts or len(self._names) < _ENOUGH_FAILURES:
            return []
        others: dict[int, int] = {}
        for number in todo:
            others.setdefault(self._shard.segments[number].video, number)
        untried = [number for video, number in others.items() if video not in self._names]
        n = min(_ENOUGH_FAILURES, len(untried))
        self._scouts = [untried[(2 * i + 1) * len(untried) // (2 * n)] for i in range(n)]
        return self._scouts


def without_numbers(text: str) -> str:
    """A reason without numbers that differ between segments: frames and sizes."""
    return re.sub(r"\d+", "#", text)


def segment_name(shard: ShardPlan, number: int) -> str:
    """The name of a segment's video, and the frames."""
    segment = shard.segments[number]
    return f"{shard.videos[segment.video].name} frames {segment.start} to {segment.stop - 1}"
