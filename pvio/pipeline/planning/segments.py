"""Cut videos into segments, and spread them over shards by cost (LPT)."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pvio.media.index.frame_index import FrameIndex

Task = TypeVar("Task", bound=Hashable)


@dataclass(frozen=True)
class Segment:
    """A range of consecutive frames of one video, `[start, stop)`, that starts at a keyframe.

    Attributes:
        video: number of the video in the collection.
        start, stop: frame numbers.
    """

    video: int
    start: int
    stop: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.stop - self.start


def cut_segments(index: FrameIndex, segment_frames: int, video: int = 0) -> list[Segment]:
    """Cut a video at the keyframes nearest to the multiples of `segment_frames`.

    The cuts depend on the video and `segment_frames` alone, so that a segment has the
    same results however the work is split. A segment is as long as its GOP if keyframes are rarer
    than `segment_frames`.
    """
    targets = np.arange(segment_frames, index.n_frames, segment_frames)
    keyframes = index.keyframes
    right = np.clip(np.searchsorted(keyframes, targets), 1, max(1, len(keyframes) - 1))
    if len(keyframes) > 1 and len(targets):
        before, after = keyframes[right - 1], keyframes[right]
        nearest = np.where(targets - before <= np.abs(after - targets), before, after)
    else:
        nearest = np.array([], np.int64)
    bounds = np.unique(np.concatenate([[0], nearest, [index.n_frames]])).tolist()
    return [Segment(video, a, b) for a, b in itertools.pairwise(bounds)]


def lpt(costs: Mapping[Task, float], n_workers: int) -> list[list[Task]]:
    """Longest processing time first: each task, longest first, to the least loaded worker.

    Graham (1969): the makespan is at most 4/3 - 1/(3 n_workers) of the best possible.

    Args:
        costs: seconds (or any measure of work, >= 0) of every task.
        n_workers: number of workers, at least 1.

    Returns:
        `n_workers` lists, empty ones included. Ties go to the lowest worker number.

    Raises:
        ValueError: when `n_workers` is not positive.
    """
    if n_workers < 1:
        raise ValueError(f"n_workers must be at least 1, got {n_workers}")
    loads = [(0.0, worker) for worker in range(n_workers)]
    assigned: list[list[Task]] = [[] for _ in range(n_workers)]
    for task in sorted(costs, key=lambda task: -costs[task]):
        load, worker = loads[0]
        assigned[worker].append(task)
        heapq.heapreplace(loads, (load + costs[task], worker))
    return assigned


def shard_segments(costs: Sequence[float], n_shards: int) -> list[list[int]]:
    """Assign segments, given in the order of the collection, to shards.

    The loads are those of `lpt`; but segments of equal cost are exchanged so that neighbors of
    one video land in one shard, and every shard works in the order of the collection.

    Args:
        costs: seconds of every segment.
        n_shards: number of shards, at least 1.

    Returns:
        For every shard the ascending numbers of its segments.
    """
    shards = lpt(dict(enumerate(costs)), n_shards)
    slots: dict[float, list[int]] = {}
    for shard, segments in enumerate(shards):
        for segment in segments:
            slots.setdefault(costs[segment], []).append(shard)
    assigned: list[list[int]] = [[] for _ in range(n_shards)]
    taken = {cost: iter(shards) for cost, shards in slots.items()}
    for segment, cost in enumerate(costs):
        assigned[next(taken[cost])].append(segment)
    return assigned
