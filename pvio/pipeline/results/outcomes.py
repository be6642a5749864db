"""The receipts of all jobs, by video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pvio.layout import STAGES, Kind, Stage
from pvio.pipeline.planning.manifest import Failures, Plan, Receipt, SegmentReceipt


@dataclass
class VideoOutcome:
    """The outcome of the segments of a video.

    Attributes:
        segments: their numbers in the plan.
        digests: of their entries in the cache, by kind and number of the segment.
        failures: receipts of segments without a result, by stage, in their order.
        status: rows by status.
        not_finite: rows whose output is NaN or infinite, by output.
        skipped: reasons why frames were skipped, by stage; each once.
        seconds: measured wall time by stage.
    """

    segments: list[int] = field(default_factory=list)
    digests: dict[tuple[Kind, int], str] = field(default_factory=dict)
    failures: dict[Stage, list[SegmentReceipt]] = field(
        default_factory=lambda: {stage: [] for stage in STAGES}
    )
    status: Counter[str] = field(default_factory=Counter)
    not_finite: Counter[str] = field(default_factory=Counter)
    skipped: dict[Stage, list[str]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def digests_of(self, kind: Kind) -> list[str]:
        """Digests of all segments' entries of a kind."""
        return [self.digests[kind, number] for number in self.segments]

    def add(self, stage: Stage, done: SegmentReceipt) -> None:
        """Add the outcome of a stage of a segment."""
        for kind, digest in done.digests.items():
            self.digests[kind, done.segment] = digest  # type: ignore[index]
        self.status.update(done.status)
        self.not_finite.update(done.not_finite)
        if done.skipped_reason and done.skipped_reason not in self.skipped[stage]:
            self.skipped[stage].append(done.skipped_reason)
        self.seconds[stage] += done.seconds.get("total", 0.0)


def outcomes(plan: Plan, receipts: Iterable[Receipt], failures: Failures) -> list[VideoOutcome]:
    """The outcome of each video of a plan.

    Args:
        plan: the manifest.
        receipts: of all jobs.
        failures: segments that have no result.
    """
    found = [VideoOutcome() for _ in plan.videos]
    for number, segment in enumerate(plan.segments):
        found[segment.video].segments.append(number)
    for receipt in receipts:
        for done in receipt.segments:
            found[plan.segments[done.segment].video].add(receipt.stage, done)
    for (stage, number), failure in sorted(failures.items(), key=lambda each: each[0]):
        found[plan.segments[number].video].failures[stage].append(failure)
    return found
