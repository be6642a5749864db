"""Digests of the content of videos, and reasons for errors that FFmpeg reports."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import av

from pvio.cache.digest import stream_digest
from pvio.collection.image_names import image_files
from pvio.collection.sources import Source
from pvio.concurrency.timeout import report_progress
from pvio.errors import UnreadableVideo
from pvio.media.containers.file_kind import describe_other_file


def content_digest(source: Source) -> str:
    """Digest of all bytes of a video, or of the names and bytes of all its images.

    It covers the whole file: a repaired file must not get the results of its broken copy.

    Args:
        source: the video.

    Raises:
        UnreadableVideo: if the file cannot be read.
    """
    try:
        return combined_digest(source, _file_digest)
    except OSError as error:
        raise UnreadableVideo(source.path, error_reason(error)) from error


def combined_digest(source: Source, digest_of: Callable[[str], str]) -> str:
    """`content_digest`, with a function for the digest of a file.

    Args:
        source: the video.
        digest_of: takes a path and returns a digest; its OSError makes an image "unreadable".
    """
    if not source.is_image_folder:
        return digest_of(source.path)
    digest = hashlib.blake2b(digest_size=16)
    for file in image_files(source.path):
        name = os.path.basename(file).encode("utf-8", "surrogateescape")
        try:
            of_file = digest_of(file)
        except OSError:  # one missing frame, not a missing video
            of_file = "unreadable"
        digest.update(name + b"\0" + of_file.encode() + b"\n")
    return digest.hexdigest()


def hang_reason(seconds: float) -> str:
    """The reason why a file is unreadable at which FFmpeg hangs."""
    return f"FFmpeg hangs at it: nothing was read for {seconds:g} s"


def error_reason(error: Exception, path: str | None = None) -> str:
    """The reason why a file could not be read, for a user.

    Args:
        error: of FFmpeg or of the operating system.
        path: of the file; its first bytes may show that it is something else than a video.
    """
    text = getattr(error, "strerror", None) or str(error)
    is_no_video = isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError))
    if is_no_video and path and (found := describe_other_file(path)):
        return found
    if isinstance(error, av.error.InvalidDataError):
        if "moov atom not found" in str(error.log) and _is_mp4(path):
            return (
                "its list of frames (moov) is missing: recording or copying was cut short; a tool "
                "such as untrunc may restore it"
            )
        return "no video, or its header is damaged (FFmpeg: " + text + ")"
    return text[0].lower() + text[1:] if text else type(error).__name__


def _file_digest(path: str) -> str:
    """`file_digest`, which shows that it is at work: a file may be large, and its disk slow."""
    with open(path, "rb") as file:
        return stream_digest(_Reporting(file))


class _Reporting:
    """A binary file that reports each piece that is read."""

    def __init__(self, file: BinaryIO):
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        report_progress()
        n_bytes: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        return n_bytes


def _is_mp4(path: str | None) -> bool:
    """Whether a file begins like MP4 or MOV, independent of its name."""
    with contextlib.suppress(OSError), Path(path or "").open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"mdat", b"free", b"wide", b"skip")
    return False
