"""Stage 2: the sharding manifest of a probed collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pvio.cache.entries import Cache
from pvio.cache.lookup import map_in_threads
from pvio.config.settings import Settings
from pvio.layout import Stage
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.completion import Completion, SegmentState
from pvio.pipeline.planning.cost import CostModel, stage_workloads
from pvio.pipeline.planning.keys import ResultKeys, made_with
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.pipeline.planning.probed_video import index_of
from pvio.pipeline.planning.resources import Resources, job_resources
from pvio.pipeline.planning.segments import Segment, cut_segments, shard_segments

logger = logging.getLogger(__name__)

# Time of a job for a finished segment.
LOOKUP_SECONDS = 1e-3


def make_plan(
    videos: Sequence[ProbedVideo], settings: Settings, n_shards: int
) -> tuple[Plan, Resources]:
    """Cut every readable video into segments and spread them over the shards by cost.

    Finished segments cost nothing, so that the rest is spread evenly. A video with an error becomes
    `unreadable` in the plan, see `reason_for_video`.

    Args:
        videos: what `probe` returned.
        settings: `segment_frames`, `cache`, `model`, `decoder`, `decoder_timeout` and `output`
            matter.
        n_shards: number of jobs of each stage.

    Returns:
        The plan, and the resources of each of its jobs.
    """
    planner = _Planner(videos, settings)
    cut = planner.cut()
    segments_of = [(planner.videos[segment.video], segment) for segment in cut]
    completion = Completion(planner.keys, planner.cache, settings.decoder_timeout)
    states = completion.states(segments_of)
    # Each shard with segments of a video calls `prepare`; at least one shard has each video.
    seconds = [planner.seconds("infer", each, each.start == 0) for each in cut]
    infer_shards, infer_loads = _spread("infer", seconds, states, n_shards)
    firsts = _first_of_videos(cut, infer_shards)
    segments = [
        PlannedSegment(
            each.video,
            each.start,
            each.stop,
            infer_seconds=planner.seconds("infer", each, number in firsts),
            encode_seconds=planner.seconds("encode", each, False),
        )
        for number, each in enumerate(cut)
    ]
    identity = made_with(settings, planner.keys.fingerprint)
    unfinished = {
        segment.video
        for segment, state in zip(cut, states, strict=True)
        if not all(map(state.is_finished, planner.keys.stages))
    }
    readable = sum(video.status == "ok" for video in planner.videos)
    n_finished = readable - len(unfinished)
    plan = Plan(planner.videos, segments, infer_shards, [], identity, n_finished)
    frames = _frames_to_do("infer", cut, states)
    known = planner.is_measured
    resources: Resources = {
        "infer": job_resources("infer", infer_loads, frames, plan, settings, known("infer"))
    }
    if "encode" in planner.keys.stages:
        seconds = [segment.encode_seconds for segment in segments]
        encode_shards, encode_loads = _spread("encode", seconds, states, n_shards)
        plan = replace(plan, encode_shards=encode_shards)
        frames = _frames_to_do("encode", cut, states)
        resources["encode"] = job_resources(
            "encode", encode_loads, frames, plan, settings, known("encode")
        )
    return plan, resources


class _Planner:
    """Cuts videos and predicts the costs of their segments.

    Args:
        videos, settings: see `make_plan`.

    Attributes:
        videos: those with errors in planning become `unreadable`.
    """

    def __init__(self, videos: Sequence[ProbedVideo], settings: Settings):
        self.videos = list(videos)
        self.cache = Cache(settings.cache)
        model = model_fingerprint(settings.model)
        self.keys = ResultKeys(settings, model)
        self._settings = settings
        self._costs = CostModel.load(settings.cache)
        self._workloads = stage_workloads(settings, model)

    def seconds(self, stage: Stage, segment: Segment, first: bool) -> float:
        """Predicted seconds of a stage; 0 for a stage that the settings do not need.

        Args:
            stage: of the workflow.
            segment: of a video.
            first: whether the model calls `prepare` for the video first.
        """
        if stage not in self.keys.stages:
            return 0.0
        video, workload = self.videos[segment.video], self._workloads[stage]
        return round(self._costs.seconds(workload, video, segment.n_frames, first), 6)

    def is_measured(self, stage: Stage) -> bool:
        """Whether the work of a stage was measured before."""
        return self._costs.is_measured(self._workloads[stage])

    def cut(self) -> list[Segment]:
        """The segments of all readable videos."""
        readable = [number for number, video in enumerate(self.videos) if video.status == "ok"]
        segments: list[Segment] = []
        for number, (of_video, reason) in zip(
            readable, map_in_threads(self._cut_video, readable), strict=True
        ):
            segments += of_video
            if reason:
                unreadable = replace(self.videos[number], status="unreadable", reason=reason)
                self.videos[number] = unreadable
        return segments

    def _cut_video(self, number: int) -> tuple[list[Segment], str]:
        """The segments of a video, or the reason why it has none."""
        video = self.videos[number]
        try:
            index = index_of(video, self.cache, self._settings.decoder_timeout)
            segments = cut_segments(index, self._settings.segment_frames, number)
            for segment in segments[:1]:  # the calls that follow for all segments
                for stage in self.keys.stages:
                    self.keys.produced_by(stage, video, segment)
                    self.seconds(stage, segment, True)
            return segments, ""
        except Exception as error:
            return [], reason_for_video(error, video.path, "planning", self._settings.cache)


def _frames_to_do(
    stage: Stage, segments: Sequence[Segment], states: Sequence[SegmentState]
) -> list[int]:
    return [
        0 if state.is_finished(stage) else segment.n_frames
        for segment, state in zip(segments, states, strict=True)
    ]


def _spread(
    stage: Stage, seconds: Sequence[float], states: Sequence[SegmentState], n_shards: int
) -> tuple[list[list[int]], list[float]]:
    """Shards of a stage, the one with the most to do first, and the seconds of each."""
    finished = [state.is_finished(stage) for state in states]
    left = [LOOKUP_SECONDS if done else each for each, done in zip(seconds, finished, strict=True)]
    shards = [
        (sum(left[number] for number in shard), shard) for shard in shard_segments(left, n_shards)
    ]
    shards.sort(key=lambda each: -each[0])
    loads = [load for load, _ in shards]
    logger.info(
        "%s: %d of %d segments to do in %d shards; longest %.1f s, mean %.1f s (predicted)",
        *(stage, finished.count(False), len(left), n_shards, max(loads), sum(loads) / n_shards),
    )
    return [shard for _, shard in shards], loads


def _first_of_videos(segments: Sequence[Segment], shards: list[list[int]]) -> set[int]:
    """Numbers of the segments that are the first of their video in their shard."""
    firsts: set[int] = set()
    for shard in shards:
        first: dict[int, int] = {}
        for number in shard:
            first.setdefault(segments[number].video, number)
        firsts.update(first.values())
    return firsts
