"""Stage 2: the sharding manifest of a probed collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pvio.cache.lookup import look_up
from pvio.cache.store import Store, StoreError
from pvio.collection.sources import Source
from pvio.config.settings import Settings
from pvio.errors import UnreadableVideo
from pvio.media.index.cached import deserialize_index, load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.cost import Work, load_costs, works
from pvio.pipeline.planning.keys import predictions_key, video_key
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.pipeline.planning.resources import Loads, job_loads
from pvio.pipeline.planning.segments import Segment, cut_segments, shard_segments

log = logging.getLogger(__name__)

# What a job takes for a segment that is finished.
LOOKUP_SECONDS = 1e-3


def make_plan(
    videos: Sequence[ProbedVideo], settings: Settings, n_shards: int
) -> tuple[Plan, Loads]:
    """Cut every readable video into segments and spread them over the shards by cost.

    What is in the store already costs nothing, so that the rest is spread evenly. Whatever is
    raised for a video makes it `unreadable` in the plan, see `reason_for_video`.

    Args:
        videos: what `probe` returned.
        settings: `segment_frames`, `cache`, `model`, `decoder` and `output` matter.
        n_shards: number of infer and of encode jobs.

    Returns:
        The plan, and what each of the jobs that there will be has to do.
    """
    store = Store(settings.cache)
    costs = load_costs(settings.cache)
    model = model_fingerprint(settings.model)
    infer, encode = works(settings, model)

    videos = list(videos)

    def predict(work: Work, segment: Segment, first: bool) -> float:
        video = videos[segment.video]
        return round(costs.seconds(work, video, segment.n_frames, first), 6)

    def cut_video(number: int) -> tuple[list[Segment], str]:
        """The segments of a video, and why it has none."""
        video = videos[number]
        try:
            index = stored_index(video, store)
            segments = cut_segments(index, settings.segment_frames, number)
            for segment in segments[:1]:  # what is to be asked of all of them below
                video_key(video, segment, settings, model)
                for work in (infer, encode):
                    predict(work, segment, True)
            return segments, ""
        except Exception as error:
            return [], reason_for_video(error, video.path, "planning", settings.cache)

    readable = [number for number, video in enumerate(videos) if video.status == "ok"]
    cut: list[Segment] = []
    for number, (segments_of_video, reason) in zip(
        readable, look_up(cut_video, readable), strict=True
    ):
        cut += segments_of_video
        if reason:
            videos[number] = replace(videos[number], status="unreadable", reason=reason)
    inferred, encoded = _finished(cut, videos, settings, model, store)

    def spread(
        seconds: Sequence[float], finished: Sequence[bool]
    ) -> tuple[list[list[int]], list[float]]:
        """Shards, the one with the most to do first, and the seconds of each."""
        left = [
            LOOKUP_SECONDS if done else each for each, done in zip(seconds, finished, strict=True)
        ]
        shards = [
            (sum(left[number] for number in shard), shard)
            for shard in shard_segments(left, n_shards)
        ]
        shards.sort(key=lambda each: -each[0])
        loads = [load for load, _ in shards]
        log.info(
            "%d of %d segments to do in %d shards; longest %.1f s, mean %.1f s (predicted)",
            *(finished.count(False), len(left), n_shards, max(loads), sum(loads) / n_shards),
        )
        return [shard for _, shard in shards], loads

    # Each shard with segments of a video prepares for it; that one does is known beforehand.
    shards, loads = spread([predict(infer, each, each.start == 0) for each in cut], inferred)
    firsts = _first_of_videos(cut, shards)
    segments = [
        PlannedSegment(
            each.video,
            each.start,
            each.stop,
            infer_seconds=predict(infer, each, number in firsts),
            encode_seconds=predict(encode, each, False),
        )
        for number, each in enumerate(cut)
    ]
    encodes, encode_loads = spread([each.encode_seconds for each in segments], encoded)
    plan = Plan(videos, segments, shards, encodes)
    found: Loads = {"infer": job_loads("infer", loads, plan, settings)}
    if settings.output.video == "overlay":
        found["encode"] = job_loads("encode", encode_loads, plan, settings)
    return plan, found


def stored_index(video: ProbedVideo, store: Store) -> FrameIndex:
    """The frame index that a probed video had when it was probed.

    Raises:
        UnreadableVideo: when its entry is lost and the video is another one by now.
    """
    try:
        return deserialize_index(*store.read("index", video.index_key), video.path)
    except StoreError:
        index = load_index(Source(video.path, video.name, video.is_image_folder), store)
        if index.content_digest != video.digest:
            raise UnreadableVideo(
                video.path, "it has changed since it was probed; run the workflow again"
            ) from None
        return index


def _finished(
    segments: Sequence[Segment],
    videos: Sequence[ProbedVideo],
    settings: Settings,
    model: str,
    store: Store,
) -> tuple[list[bool], list[bool]]:
    """Of every segment, whether infer has finished it, and whether encode has."""

    def look(segment: Segment) -> tuple[bool, bool]:
        facts = (videos[segment.video], segment, settings, model)
        try:
            inferred = store.has("predictions", predictions_key(*facts))
            encoded = inferred and store.has("video", video_key(*facts))
        except Exception as error:  # its job looks again
            reason_for_video(error, videos[segment.video].path, "looking up", settings.cache)
            return False, False
        return (encoded if settings.output.video == "frames" else inferred), encoded

    if not store.holds("predictions"):
        return [False] * len(segments), [False] * len(segments)
    pairs = look_up(look, segments)
    return [inferred for inferred, _ in pairs], [encoded for _, encoded in pairs]


def _first_of_videos(segments: Sequence[Segment], shards: list[list[int]]) -> set[int]:
    """Numbers of the segments that are the first of their video in their shard."""
    firsts: set[int] = set()
    for shard in shards:
        first: dict[int, int] = {}
        for number in shard:
            first.setdefault(segments[number].video, number)
        firsts.update(first.values())
    return firsts
