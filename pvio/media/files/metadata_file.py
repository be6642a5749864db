"""The metadata file next to a video: what `get_video_metadata` keeps."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from pvio.collection.sources import VIDEO_SUFFIXES

# Of a video that its cache is compared with: so many bytes from the start, the middle and the end.
_SAMPLED_BYTES = 1 << 16


def check_suffix(suffix: str) -> None:
    """Check that the cache of a video is no video.

    Raises:
        ValueError: when the suffix is no ending of a file name, or that of a video.
    """
    if (
        not isinstance(suffix, str)
        or not suffix
        or os.path.basename(suffix) != suffix
        or Path("a" + suffix).suffix.lower() in VIDEO_SUFFIXES
    ):
        raise ValueError(
            f"metadata_suffix must be an ending of a file name that is not of a video, such as"
            f" '.metadata.json', got {suffix!r}"
        )


def read_metadata(video_path: Path, cache_path: Path, suffix: str) -> dict[str, Any] | None:
    """The cached metadata; None when there is none for the video as it is now.

    Raises:
        ValueError: when the file of the metadata is damaged.
        RuntimeError: when the video cannot be opened.
    """
    if cache_path.is_file():
        stored = _parsed(cache_path, ("size", "mtime_ns"))
        identity = identity_of(video_path)
        return _metadata_in(stored) if identity.items() <= stored.items() else None
    legacy_path = video_path.with_suffix(suffix) if suffix[:1] == "." else cache_path
    if legacy_path == video_path or not legacy_path.is_file():
        return None
    stored = _parsed(legacy_path, ())
    video = video_path.stat()
    # `cp -p` and `mv` keep the time of modification, not that of the status.
    is_newer = legacy_path.stat().st_mtime_ns > max(video.st_mtime_ns, video.st_ctime_ns)
    return _metadata_in(stored) if is_newer and not _namesakes(video_path) else None


def _parsed(cache_path: Path, more_keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        stored = json.loads(cache_path.read_text(encoding="utf-8"))
        known = _metadata_in(stored)
        if known["n_frames"] < 0 or not 0 < known["fps"] < math.inf:
            raise ValueError(f"impossible values: {known}")
        for key in more_keys:
            int(stored[key])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Corrupted metadata cache file {cache_path}: {error!r}; delete it to have it rebuilt"
        ) from error
    metadata: dict[str, Any] = stored
    return metadata


def _metadata_in(stored: dict[str, Any]) -> dict[str, Any]:
    height, width = map(int, stored["frame_size"])
    return {
        "n_frames": int(stored["n_frames"]),
        "frame_size": (height, width),
        "fps": float(stored["fps"]),
    }


def identity_of(video_path: Path) -> dict[str, int | str]:
    """Values that are the same only for the very file.

    The digest covers samples only. It notices most replacements where a file system has no true
    inode numbers or times of status change.

    Raises:
        RuntimeError: when the video cannot be opened.
    """
    stat = video_path.stat()
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(video_path, "rb") as file:
            for start in (0, stat.st_size // 2, max(0, stat.st_size - _SAMPLED_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLED_BYTES))
    except OSError as error:
        raise RuntimeError(f"Failed to open video file: {video_path}: {error}") from error
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
        "sample": digest.hexdigest(),
    }


def _namesakes(video_path: Path) -> bool:
    """Whether another video of the folder has the same name but for the ending."""
    return any(
        other.suffix.lower() in VIDEO_SUFFIXES and other.stem == video_path.stem
        for other in video_path.parent.iterdir()
        if other.name != video_path.name
    )
