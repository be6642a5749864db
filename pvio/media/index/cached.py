"""Frame indexes in the cache."""

from __future__ import annotations

import functools
import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, fields
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from pvio.cache.digest import hash_key
from pvio.cache.entries import Cache
from pvio.collection.image_names import image_files, is_sequence
from pvio.collection.sources import Source
from pvio.concurrency.prefetch import StallTimeout
from pvio.concurrency.timeout import call_with_timeout
from pvio.errors import CacheError, UnreadableVideo
from pvio.media.index.build import build_index
from pvio.media.index.content import content_digest, error_reason, hang_reason
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.color import ColorTags
from pvio.media.pixels.orientation import Orientation

logger = logging.getLogger(__name__)

# Part of the key of every stored index; a higher number makes all videos be indexed again.
SCHEMA = 13
# Fields of `FrameIndex` that are stored under the names that earlier versions gave them.
_STORED_NAMES = {
    "content_digest": "content",
    "average_rate": "rate",
    "pts_identify_frames": "timed",
}
# Fields that are not in the metadata: arrays are the payload, paths belong to the caller.
_NOT_STORED = ("pts", "keyframes", "path", "staged_path")
# Seconds without progress after which building an index in this process ends: the default of the
# setting `decoder_timeout`, which programs that use pvio as a library do not have.
_TIMEOUT = 120.0


def _build_with_timeout(source: Source) -> FrameIndex:
    """Build an index in a thread, for programs that use pvio as a library.

    Such a program may be a worker of a pool itself, which must not have children, and an
    interpreter for every file would take longer than most indexes. So a file that makes FFmpeg hang
    is unreadable, and one that makes it crash ends the program.
    """
    try:
        return call_with_timeout(partial(build_index, source), _TIMEOUT)
    except StallTimeout:
        raise UnreadableVideo(source.path, hang_reason(_TIMEOUT)) from None


def load_index(
    source: Source | str | os.PathLike[str],
    cache: Cache | None = None,
    build: Callable[[Source], FrameIndex] = _build_with_timeout,
) -> FrameIndex:
    """The index of a video: from the cache if it is there, else built and stored.

    Args:
        source: the video, or its path.
        cache: the cache; None for none.
        build: builds the index.

    Raises:
        UnreadableVideo: if the file is missing, is not a video, or has no frame.
    """
    if not isinstance(source, Source):
        source = Source(str(source), "", os.path.isdir(source) or is_sequence(source))
    if cache is None:
        return build(source)
    try:
        key, _ = cached_index_metadata(source, cache)
        return deserialize_index(*cache.read("index", key), source.path)
    except CacheError as error:
        if cache.has("index", index_key(source)):
            logger.warning("%s; the index of %s is rebuilt", error, source.path)
        return rebuild_index(source, cache, build)[0]


def rebuild_index(
    source: Source, cache: Cache, build: Callable[[Source], FrameIndex] = build_index
) -> tuple[FrameIndex, str, dict[str, Any]]:
    """Build the index of a video and store it.

    Args:
        source: the video.
        cache: the cache.
        build: builds the index.

    Returns:
        The index, its key and its metadata in the cache.

    Raises:
        UnreadableVideo: see `load_index`; also if the file changes while it is being indexed.
    """
    key, changed_ns = before = _identity(source)
    index = build(source)
    if _identity(source) != before:
        raise UnreadableVideo(
            source.path, "the file changed while it was being indexed; is it still being recorded?"
        )
    payload, metadata = serialize_index(index)
    metadata |= {"changed_ns": changed_ns}
    cache.write("index", key, payload, metadata)
    return index, key, metadata


def cached_index_metadata(
    source: Source, cache: Cache, *, renew: bool = True, compare: bool = True
) -> tuple[str, dict[str, Any]]:
    """Key and metadata of a video's index in the cache, without the index itself.

    Path, size and modification time identify a file. If its status changed (ctime) since it was
    indexed, its content is compared as well, which reads the whole file.

    Args:
        source: the video.
        cache: the cache.
        renew: whether to store the new time of the status change.
        compare: whether to compare the content; otherwise the index counts as missing.

    Returns:
        The key and the stored metadata.

    Raises:
        CacheError: if there is no index of the present content.
        UnreadableVideo: if there is no such file.
    """
    key, changed_ns = _identity(source)
    metadata = cache.metadata("index", key)
    if metadata["changed_ns"] != changed_ns:
        if not compare or metadata["content"] != content_digest(source):
            raise CacheError(f"{source.path} has other content, at the same size and time")
        if renew:
            payload, metadata = cache.read("index", key)
            cache.write("index", key, payload, metadata | {"changed_ns": changed_ns})
    return key, metadata


def index_key(source: Source) -> str:
    """Key of the index in the cache: resolved path, size and modification time.

    Args:
        source: the video.

    Raises:
        UnreadableVideo: if there is no such file.
    """
    return _identity(source)[0]


def _identity(source: Source) -> tuple[str, int]:
    """`index_key`, and the last status change (ctime) of the file or of any image, in ns."""
    try:
        if source.is_image_folder:
            stats = []
            content: Any = []
            for path in image_files(source.path):
                each = _stat_or_none(path)
                stamp = f"{each.st_size}:{each.st_mtime_ns}" if each else "absent"
                content.append([os.path.basename(path), stamp])
                stats += [each] if each else []
        else:
            stats = [os.stat(source.path)]
            content = [stats[0].st_size, stats[0].st_mtime_ns]
    except OSError as error:
        raise UnreadableVideo(source.path, error_reason(error)) from error
    key = hash_key(index=SCHEMA, path=_real_path(source.path), content=content)
    return key, max((each.st_ctime_ns for each in stats), default=0)


def _stat_or_none(path: str) -> os.stat_result | None:
    """`os.stat` of an image; None for a broken link, which is a missing frame."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _real_path(path: str) -> str:
    """`os.path.realpath`, which resolves each folder once for all of its files."""
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.join(_real_folder(folder), name)
    return os.path.realpath(whole) if os.path.islink(whole) else whole


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def serialize_index(index: FrameIndex) -> tuple[bytes, dict[str, Any]]:
    """Payload and metadata of the index as a cache entry; see `deserialize_index`."""
    numbers = np.concatenate([index.pts, index.keyframes]).astype("<i8")
    values = {
        _STORED_NAMES.get(field.name, field.name): getattr(index, field.name)
        for field in fields(index)
        if field.name not in _NOT_STORED
    }
    values |= {name: str(value) for name, value in values.items() if isinstance(value, Fraction)}
    values |= {"orientation": asdict(index.orientation), "color": tuple(index.color)}
    values |= {"n_frames": index.n_frames, "duration": index.duration}
    return zlib.compress(numbers.tobytes(), 1), values


def deserialize_index(payload: bytes, metadata: dict[str, Any], path: str) -> FrameIndex:
    """The index from a cache entry.

    Args:
        payload: compressed int64, the time stamps and then the numbers of the keyframes.
        metadata: the other fields, as JSON.
        path: of the video.
    """
    numbers = np.frombuffer(zlib.decompress(payload), "<i8").astype(np.int64)
    pts, keyframes = np.split(numbers, [metadata["n_frames"]])
    stored = {field.name: _STORED_NAMES.get(field.name, field.name) for field in fields(FrameIndex)}
    values = {name: metadata[key] for name, key in stored.items() if key in metadata}
    for name in ("time_base", "average_rate", "sample_aspect_ratio"):
        values[name] = Fraction(values[name])
    values["orientation"] = Orientation(**metadata["orientation"])
    values["color"] = ColorTags(*metadata["color"])
    values["pages"] = tuple(metadata.get("pages", ()))
    values["other_sizes"] = tuple((height, width) for height, width in metadata["other_sizes"])
    return FrameIndex(**(values | {"path": path, "pts": pts, "keyframes": keyframes}))
