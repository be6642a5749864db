"""A probed video: its row, its index, and whether it is unchanged."""

from __future__ import annotations

from functools import partial
from typing import Any

from pvio.cache.entries import Cache
from pvio.collection.sources import Source
from pvio.concurrency.child_process import Worker
from pvio.errors import CacheError, UnreadableVideo
from pvio.media.index.cached import cached_index_metadata, deserialize_index, index_key, load_index
from pvio.media.index.content import content_digest
from pvio.media.index.frame_index import FrameIndex
from pvio.media.index.isolated import build_index_in_child
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.manifest import ProbedVideo


def known_video(
    source: Source, cache: Cache, *, renew: bool = True, compare: bool = True
) -> ProbedVideo | None:
    """The row of a video whose index is in the cache, or whose file is missing.

    Args:
        source: the video.
        cache: with indexes.
        renew: see `cached_index_metadata`.
        compare: see there, too.
    """
    try:
        return probed_row(
            source, *cached_index_metadata(source, cache, renew=renew, compare=compare)
        )
    except CacheError:
        return None
    except UnreadableVideo as error:
        return unreadable_row(source, error.reason)
    except Exception as error:  # as if there were no index: it is built anew
        reason_for_video(error, source.path, "looking up", cache.root)
        return None


def unreadable_row(source: Source, reason: str) -> ProbedVideo:
    """The row of a video that cannot be read."""
    return ProbedVideo(source.name, source.path, source.is_image_folder, "unreadable", reason)


def probed_row(source: Source, key: str, metadata: dict[str, Any]) -> ProbedVideo:
    """The row of a video, from the key and the metadata of its index."""
    numerator, _, denominator = metadata["rate"].partition("/")
    return ProbedVideo(
        name=source.name,
        path=source.path,
        is_image_folder=source.is_image_folder,
        index_key=key,
        digest=metadata["content"],
        n_frames=metadata["n_frames"],
        height=metadata["height"],
        width=metadata["width"],
        rate=int(numerator) / int(denominator or 1),
        duration=metadata["duration"],
        codec=metadata["codec"],
        pix_fmt=metadata["pix_fmt"],
        damage=metadata["damage"],
        warning=metadata["warning"],
    )


def index_of(video: ProbedVideo, cache: Cache, timeout: float = 120.0) -> FrameIndex:
    """The frame index of a probed video; one that is lost is built again, in a child process.

    Args:
        video: of the plan.
        cache: with indexes.
        timeout: seconds without a sign of life, after which the child hangs.

    Raises:
        UnreadableVideo: when its entry is lost, and the video has changed, or FFmpeg crashes or
            hangs at it, or takes all memory.
    """
    try:
        return deserialize_index(*cache.read("index", video.index_key), video.path)
    except CacheError:
        source = Source(video.path, video.name, video.is_image_folder)
        with Worker() as worker:
            build = partial(build_index_in_child, worker=worker, timeout=timeout)
            index = load_index(source, cache, build)
        if index.content_digest != video.digest:
            raise UnreadableVideo(
                video.path, "it has changed since it was probed; run the workflow again"
            ) from None
        return index


def check_unchanged(video: ProbedVideo, cache: Cache) -> None:
    """Check that a video is unchanged since it was probed.

    Raises:
        UnreadableVideo: when it was changed or removed.
    """
    source = Source(video.path, video.name, video.is_image_folder)
    changed = "it changed during the run; run the workflow again"
    try:
        key, metadata = cached_index_metadata(source, cache)
        content = metadata["content"]
    except CacheError:
        key, content = index_key(source), content_digest(source)
    if (key, content) != (video.index_key, video.digest):
        raise UnreadableVideo(video.path, changed)
