"""Stage 2: the sharding manifest of a probed collection."""

from __future__ import annotations

from collections.abc import Sequence

from pvio.collection import Source
from pvio.config import Settings
from pvio.cost import load_costs, works
from pvio.errors import UnreadableVideo
from pvio.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.media.index import FrameIndex, load_index, unpack_index
from pvio.models.entry import model_fingerprint
from pvio.plan import cut_segments, shard_segments
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
    segments = []
    for number, video in enumerate(videos):
        if video.status != "ok":
            continue
        index = stored_index(video, store)
        for segment in cut_segments(index, settings.segment_frames, number):
            span = (segment.start, segment.stop)
            segments.append(
                PlannedSegment(
                    number,
                    *span,
                    infer_seconds=round(costs.seconds(infer, video, *span), 6),
                    encode_seconds=round(costs.seconds(encode, video, *span), 6),
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
