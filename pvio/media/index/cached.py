"""Frame indexes in the cache."""

from __future__ import annotations

import functools
import logging
import os
import zlib
from dataclasses import asdict, fields
from fractions import Fraction
from typing import Any

import numpy as np

from pvio.cache.digest import hash_key
from pvio.cache.store import Store, StoreError
from pvio.collection.image_names import image_files, is_sequence
from pvio.collection.sources import Source
from pvio.errors import UnreadableVideo
from pvio.media.index.build import build_index
from pvio.media.index.content import content_digest, error_reason
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.orientation import Orientation

log = logging.getLogger(__name__)


SCHEMA = 13


def load_index(source: Source | str | os.PathLike[str], store: Store | None = None) -> FrameIndex:
    """The index of a video: from the store if it is there, else built and stored.

    Raises:
        UnreadableVideo: when the file is absent, is no video, or has no picture.
    """
    if not isinstance(source, Source):
        source = Source(str(source), "", os.path.isdir(source) or is_sequence(source))
    if store is None:
        return build_index(source)
    try:
        key, _ = cached_index_metadata(source, store)
        return deserialize_index(*store.read("index", key), source.path)
    except StoreError as error:
        if store.has("index", index_key(source)):
            log.warning("%s; the index of %s is built again", error, source.path)
        return rebuild_index(source, store)[0]


def rebuild_index(source: Source, store: Store) -> tuple[FrameIndex, str, dict[str, Any]]:
    """Build the index of a video and store it.

    Returns:
        The index, its key and the facts in the store.

    Raises:
        UnreadableVideo: see `load_index`; also when it changes in the meantime.
    """
    key, changed_ns = before = _identity(source)
    index = build_index(source)
    if _identity(source) != before:
        raise UnreadableVideo(source.path, "it changes while it is read: it is being written")
    payload, facts = serialize_index(index)
    facts |= {"changed_ns": changed_ns}
    store.write("index", key, payload, facts)
    return index, key, facts


def cached_index_metadata(
    source: Source, store: Store, *, renew: bool = True, compare: bool = True
) -> tuple[str, dict[str, Any]]:
    """Key and facts of a video's index in the store, without the index itself.

    A file of the same path, size and modification time is read whole when its status has changed
    since, which clocks do not undo: its content must be the same.

    Args:
        source: the video.
        store: with indexes.
        renew: whether to note the new status in the store.
        compare: whether to read such a file; else its index counts as missing.

    Raises:
        StoreError: when there is no index of the file as it is.
        UnreadableVideo: when there is no such file.
    """
    key, changed_ns = _identity(source)
    facts = store.info("index", key)
    if facts["changed_ns"] != changed_ns:
        if not compare or facts["content"] != content_digest(source):
            raise StoreError(f"{source.path} has another content, at the same size and time")
        if renew:
            payload, facts = store.read("index", key)
            store.write("index", key, payload, facts | {"changed_ns": changed_ns})
    return key, facts


def index_key(source: Source) -> str:
    """Key of the index in the store: resolved path, size and modification time.

    Raises:
        UnreadableVideo: when there is no such file.
    """
    return _identity(source)[0]


def _identity(source: Source) -> tuple[str, int]:
    """`index_key`, and when the status of the file, or of any image, changed last, in ns."""
    try:
        if source.is_image_folder:
            facts = []
            content: Any = []
            for path in image_files(source.path):
                each = _stat_or_none(path)
                stamp = f"{each.st_size}:{each.st_mtime_ns}" if each else "absent"
                content.append([os.path.basename(path), stamp])
                facts += [each] if each else []
        else:
            facts = [os.stat(source.path)]
            content = [facts[0].st_size, facts[0].st_mtime_ns]
    except OSError as error:
        raise UnreadableVideo(source.path, error_reason(error)) from error
    key = hash_key(index=SCHEMA, path=_real_path(source.path), content=content)
    return key, max((each.st_ctime_ns for each in facts), default=0)


def _stat_or_none(path: str) -> os.stat_result | None:
    """`os.stat` of an image; None for a broken link, which costs its row alone."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _real_path(path: str) -> str:
    """`os.path.realpath`, with a look at each folder once for all of its files."""
    folder, name = os.path.split(os.path.abspath(path))
    whole = os.path.join(_real_folder(folder), name)
    return os.path.realpath(whole) if os.path.islink(whole) else whole


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def serialize_index(index: FrameIndex) -> tuple[bytes, dict[str, Any]]:
    """Payload and facts of the index as a store entry."""
    numbers = np.concatenate([index.pts, index.keyframes]).astype("<i8")
    facts = {
        field.name: getattr(index, field.name)
        for field in fields(index)
        if field.name not in ("pts", "keyframes", "path", "digest", "copy")
    }
    facts |= {name: str(value) for name, value in facts.items() if isinstance(value, Fraction)}
    facts |= {"orientation": asdict(index.orientation), "content": index.content_digest}
    facts |= {"n_frames": index.n_frames, "duration": index.duration}
    return zlib.compress(numbers.tobytes(), 1), facts


def deserialize_index(payload: bytes, facts: dict[str, Any], path: str) -> FrameIndex:
    """The index from a store entry."""
    numbers = np.frombuffer(zlib.decompress(payload), "<i8").astype(np.int64)
    pts, keyframes = np.split(numbers, [facts["n_frames"]])
    names = {field.name for field in fields(FrameIndex)}
    plain = {name: value for name, value in facts.items() if name in names}
    for name in ("time_base", "rate", "sample_aspect_ratio"):
        plain[name] = Fraction(plain[name])
    plain |= {"orientation": Orientation(**facts["orientation"]), "digest": facts["content"]}
    plain |= {"color": tuple(facts["color"]), "pages": tuple(facts.get("pages", ()))}
    plain |= {"other_sizes": tuple((height, width) for height, width in facts["other_sizes"])}
    return FrameIndex(**(plain | {"path": path, "pts": pts, "keyframes": keyframes}))
