"""Segments partition a video; LPT balances them."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.color import ColorTags
from pvio.media.pixels.orientation import Orientation
from pvio.pipeline.planning.segments import cut_segments, lpt, shard_segments


def index_with(n_frames: int, keyframes: list[int]) -> FrameIndex:
    """An index of 25 frames per second with keyframes at the given frame numbers."""
    return FrameIndex(
        path="video.mp4", content_digest="", pts=np.arange(n_frames), keyframes=np.array(keyframes),
        time_base=Fraction(1, 25), average_rate=Fraction(25), height=64, width=96,
        orientation=Orientation(), stream_index=0, codec="h264", pix_fmt="yuv420p",
        container="mp4", sample_aspect_ratio=Fraction(1), color=ColorTags(0, 2, 2, 2),
        n_audio_streams=0,
    )  # fmt: skip


@st.composite
def indexes(draw: st.DrawFn) -> FrameIndex:
    n = draw(st.integers(1, 400))
    return index_with(n, sorted({0} | draw(st.sets(st.integers(0, n - 1), max_size=40))))


costs = st.lists(st.integers(0, 20).map(float), max_size=30)
few_costs = st.lists(st.integers(1, 20).map(float), min_size=1, max_size=7)


@given(indexes(), st.integers(1, 500))
def test_segments_cover_every_frame_once_and_in_order(index: FrameIndex, length: int):
    frames = [i for s in cut_segments(index, length) for i in range(s.start, s.stop)]
    assert frames == list(range(index.n_frames))


@given(indexes(), st.integers(1, 500))
def test_segments_start_at_keyframes_and_are_not_empty(index: FrameIndex, length: int):
    for segment in cut_segments(index, length):
        assert segment.start in index.keyframes
        assert segment.n_frames > 0


@given(st.integers(1, 400), st.integers(1, 500))
def test_segments_have_the_length_asked_for_where_every_frame_is_a_keyframe(n: int, length: int):
    segments = cut_segments(index_with(n, list(range(n))), length)
    assert all(segment.n_frames == length for segment in segments[:-1])
    assert segments[-1].n_frames <= length


def test_cuts_fall_on_the_keyframes_nearest_to_multiples():
    # Multiples of 100: 100 (nearest of 0, 90, 130 is 90), 200 (210) and 300 (210 again, not 400).
    segments = cut_segments(index_with(340, [0, 90, 130, 210]), 100)
    assert [(s.start, s.stop) for s in segments] == [(0, 90), (90, 210), (210, 340)]


def test_a_video_with_one_keyframe_is_one_segment():
    assert len(cut_segments(index_with(5000, [0]), 100)) == 1


def test_a_segment_carries_the_number_of_its_video():
    assert {segment.video for segment in cut_segments(index_with(9, [0, 3, 6]), 3, 7)} == {7}


@given(costs, st.integers(1, 6))
def test_every_segment_is_in_exactly_one_shard(costs: list[float], n: int):
    shards = shard_segments(costs, n)
    assert len(shards) == n
    assert sorted(itertools.chain(*shards)) == list(range(len(costs)))


@given(costs, st.integers(1, 6))
def test_shards_work_in_the_order_of_the_collection(costs: list[float], n: int):
    assert all(shard == sorted(shard) for shard in shard_segments(costs, n))


@given(costs, st.integers(1, 6))
def test_shards_have_the_loads_of_lpt(costs: list[float], n: int):
    plain = lpt(dict(enumerate(costs)), n)
    shards = shard_segments(costs, n)
    assert [sum(costs[i] for i in s) for s in shards] == [sum(costs[i] for i in s) for s in plain]


@settings(deadline=None)
@given(few_costs, st.integers(1, 4))
def test_lpt_stays_within_grahams_bound_of_the_optimum(costs: list[float], n: int):
    def makespan(assignment: tuple[int, ...]) -> float:
        loads = [0.0] * n
        for cost, worker in zip(costs, assignment, strict=True):
            loads[worker] += cost
        return max(loads)

    # The first task may stay with the first worker: workers are interchangeable.
    rest = itertools.product(range(n), repeat=len(costs) - 1)
    best = min(makespan((0, *others)) for others in rest)
    ours = max(sum(costs[task] for task in tasks) for tasks in lpt(dict(enumerate(costs)), n))
    assert ours <= best * (4 / 3 - 1 / (3 * n)) + 1e-9


def test_lpt_meets_grahams_worst_case():
    # Graham (1969) for 2 workers: tasks 3, 3, 2, 2, 2 take 7 where 6 is possible.
    assert max(map(sum, lpt_costs([3, 3, 2, 2, 2], 2))) == 7


def lpt_costs(costs: list[int], n: int) -> list[list[int]]:
    return [[costs[task] for task in tasks] for tasks in lpt(dict(enumerate(costs)), n)]


def test_a_job_without_work_is_kept():
    assert shard_segments([1.0], 3).count([]) == 2


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_worker_is_an_error(n: int):
    with pytest.raises(ValueError, match=str(n)):
        lpt({"a": 1.0}, n)


@given(st.integers(1, 40), st.integers(1, 6))
def test_equal_segments_of_one_video_are_neighbours(n_segments: int, n: int):
    for shard in shard_segments([2.5] * n_segments, n):
        assert all(b - a == 1 for a, b in itertools.pairwise(shard))
