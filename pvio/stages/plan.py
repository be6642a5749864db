"""Stage 2: the sharding manifest of a probed collection."""

from __future__ import annotations

from collections.abc import Sequence

from pvio.collection import Source
from pvio.config import Settings
from pvio.cost import Kind, load_costs
from pvio.errors import UnreadableVideo
from pvio.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.media.index import FrameIndex, load_index, unpack_index
from pvio.plan import cut_segments, shard_segments
from pvio.store import Store, StoreError


def make_plan(videos: Sequence[ProbedVideo], settings: Settings, n_shards: int) -> Plan:
    """Cut every readable video into segments and spread them over the shards by cost.

    Args:
        videos: what `probe` returned.
        settings: `segment_frames`, `model.size` and `cache` matter.
        n_shards: number of infer and of encode jobs.
    """
    store = Store(settings.cache)
    costs = load_costs(settings.cache)
    segments = []
    for number, video in enumerate(videos):
        if video.status != "ok":
            continue
        index = stored_index(video, store)
        facts = (video.codec, video.height, video.width, settings.model.size)
        infer, encode = Kind("infer", *facts), Kind("encode", *facts)
        for segment in cut_segments(index, settings.segment_frames, number):
            segments.append(
                PlannedSegment(
                    video=number,
                    start=segment.start,
                    stop=segment.stop,
                    infer_seconds=round(costs.seconds(infer, segment.n_frames), 6),
                    encode_seconds=round(costs.seconds(encode, segment.n_frames), 6),
                )
            )
    return Plan(
        videos=list(videos),
        segments=segments,
        infer=shard_segments([segment.infer_seconds for segment in segments], n_shards),
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
