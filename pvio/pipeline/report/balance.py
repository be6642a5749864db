"""The balance of the shards, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pvio.pipeline.planning.manifest import Plan, Receipt


@dataclass(frozen=True)
class ShardRow:
    """Balance of one shard, summed over its segments, whenever they were computed.

    `predicted` and `measured` are costs, see `SegmentReceipt.cost`; `wall` is wall time. `ran` is
    the wall time, and `done` the number of frames, of those segments that its last job computed.
    """

    stage: str
    shard: str
    segments: int
    frames: int
    predicted: float
    measured: float
    wall: float
    computed: int
    ran: float
    done: int


def shard_rows(stage: str, plan: Plan, receipts: Sequence[Receipt]) -> list[ShardRow]:
    """One row per shard job, in the order of the shards."""
    rows = []
    for receipt in sorted(receipts, key=lambda receipt: int(receipt.shard.split("-")[0])):
        segments = [plan.segments[done.segment] for done in receipt.segments]
        computed = [done for done in receipt.segments if done.computed]
        frames = [plan.segments[done.segment] for done in computed]
        rows.append(
            ShardRow(
                stage=stage,
                shard=receipt.shard,
                segments=len(segments),
                frames=sum(segment.stop - segment.start for segment in segments),
                predicted=sum(getattr(segment, f"{stage}_seconds") for segment in segments),
                measured=sum(done.cost for done in receipt.segments),
                wall=sum(done.seconds.get("total", 0.0) for done in receipt.segments),
                computed=len(computed),
                ran=sum(done.seconds.get("total", 0.0) for done in computed),
                done=sum(segment.stop - segment.start for segment in frames),
            )
        )
    return rows


def speed(shards: Sequence[ShardRow], stage: str) -> dict[str, float] | None:
    """Frames per second of a stage: of one job, and of all of them side by side.

    Segments that were finished before do not count.
    """
    rows = [row for row in shards if row.stage == stage]
    total = sum(row.ran for row in rows)
    if not total:
        return None
    frames = sum(row.done for row in rows)
    slowest = max(row.ran for row in rows)
    return {
        "one": frames / total,
        "all": frames / slowest,
        "balance": total / len(rows) / slowest,
    }
