"""Stage 2: the sharding manifest of a probed collection."""

from __future__ import annotations

from collections.abc import Sequence

from pvio.collection import Source
from pvio.config import Settings
from pvio.cost import Work, load_costs, works
from pvio.errors import UnreadableVideo
from pvio.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.media.index import FrameIndex, load_index, unpack_index
from pvio.models.entry import model_fingerprint
from pvio.plan import Segment, cut_segments, shard_segments
from pvio.store import Store, StoreError


def make_plan(videos: Sequence[ProbedVideo], settings: Settings, n_shards: int) -> Plan:
    """Cut every readable video into segments and spread them over the shards by cost.

    Args:
        videos: what `probe` returned.
        settings: `segment_frames` and `cache` matter; for the costs `model`, `decoder`, `output`.
        n_shards: number of infer and of encode jobs.
    """
    store = Store(settings.cache)
    costs = load_costs(settings.cache)
    infer, encode = works(settings, model_fingerprint(settings.model))
    cut = [
        segment
        for number, video in enumerate(videos)
        if video.status == "ok"
        for segment in cut_segments(stored_index(video, store), settings.segment_frames, number)
    ]

    def predict(work: Work, segment: Segment, first: bool) -> float:
        video = videos[segment.video]
        return round(costs.seconds(work, video, segment.n_frames, first), 6)

    # Each shard with segments of a video prepares for it; that one does is known beforehand.
    shards = shard_segments([predict(infer, each, each.start == 0) for each in cut], n_shards)
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
    return Plan(
        videos=list(videos),
        segments=segments,
        infer=shards,
        encode=shard_segments([segment.encode_seconds for segment in segments], n_shards),
    )


def stored_index(video: ProbedVideo, store: Store) -> FrameIndex:
    """The frame index that a probed video had when it was probed.

    Raises:
        UnreadableVideo: when its entry is lost and the video is another one by now.
    """
    try:
        return unpack_index(*store.read("index", video.index_key), video.path)
    except StoreError:
        index = load_index(Source(video.path, video.name, video.is_image_folder), store)
        if index.digest != video.digest:
            raise UnreadableVideo(
                video.path, "it has changed since it was probed; run the workflow again"
            ) from None
        return index


def _first_of_videos(segments: Sequence[Segment], shards: list[list[int]]) -> set[int]:
    """Numbers of the segments that are the first of their video in their shard."""
    firsts: set[int] = set()
    for shard in shards:
        first: dict[int, int] = {}
        for number in shard:
            first.setdefault(segments[number].video, number)
        firsts.update(first.values())
    return firsts
