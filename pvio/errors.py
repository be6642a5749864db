"""Exceptions; their messages are for users, and say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "cannot allocate memory", "MemoryError")


class PvioError(Exception):
    """Base of all errors that pvio raises on purpose; the text says what to do."""


class ConfigError(PvioError, ValueError):
    """A setting is unknown, has the wrong type or is outside its range."""


class CollectionError(PvioError, ValueError):
    """The `videos` setting gives no usable collection."""


class UnreadableVideo(PvioError, ValueError):
    """A file has no video stream that can be read."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableVideo], tuple[object, str]]:
        return type(self), (self.path, self.reason)


class ModelError(PvioError):
    """A model cannot be loaded, or breaks the contract of docs/models.md."""


class CacheError(PvioError):
    """An entry of the cache is missing or damaged."""


class LostEntry(CacheError):
    """An entry that an earlier stage had committed is lost or damaged.

    Attributes:
        kind: "predictions" or "video".
    """

    def __init__(self, text: str, kind: str):
        super().__init__(text)
        self.kind = kind

    def __reduce__(self) -> tuple[type[LostEntry], tuple[str, str]]:
        return type(self), (str(self), self.kind)


class EncodeError(PvioError):
    """A video could not be encoded or concatenated."""


class NoSpaceLeft(PvioError):
    """A disk or a quota is full."""


class NotWritable(PvioError, PermissionError):
    """A folder that pvio has to write to is read-only."""


class JobError(PvioError):
    """A job cannot begin with any video: for example, its model cannot be loaded."""


class FailedSegments(PvioError):
    """All segments that a job or a run tried failed: old results stay."""


class FailedVideos(PvioError):
    """Some videos failed, and the settings have `on_failed: fail`."""


class DamagedVideos(PvioError):
    """Some videos are damaged or unreadable, and the settings have `on_damaged: fail`."""


def no_space(error: BaseException | None) -> str:
    """Advice if an error, or its cause, means that a disk is full; "" for other errors."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" for {os.fspath(error.filename)!r}" if error.filename else ""
            return (
                f"no space is left{where} ({error.strerror}). Free some space, or use a larger "
                "disk: `cache` may be set to any folder, and `results` may be a link to one. Then "
                "run the same command again: finished segments are kept"
            )
        error = error.__cause__ or error.__context__
    return ""


@contextlib.contextmanager
def on_disk_of(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors of a full or read-only disk name the folder that the block writes to.

    Raises:
        NotWritable: when the folder is read-only.
        OSError: when the disk is full; `no_space` then names the folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            # A new error, since errors of PyAV accept no file name.
            raise OSError(error.errno, error.strerror, os.fspath(folder)) from error
        if error.errno == errno.EROFS or (
            error.errno in (errno.EACCES, errno.EPERM)
            and (error.filename is None or _is_below(error.filename, folder))
        ):
            raise NotWritable(
                f"{os.fspath(folder)!r} cannot be written to ({error.strerror}). Make it writable "
                "for this user, or use another folder"
            ) from error
        raise


def _is_below(path: object, folder: str | os.PathLike[str]) -> bool:
    above = os.path.join(os.path.abspath(folder), "")
    return f"{os.path.abspath(os.fsdecode(path))}/".startswith(above)  # type: ignore[arg-type]


def memory_advice(text: str) -> str:
    """Advice for a message that memory ran out; "" for other messages."""
    if any(each.casefold() in text.casefold() for each in _OUT_OF_MEMORY):
        return ". Lower model.batch_size or model.size, or run fewer jobs at the same time"
    return ""


def breaks_cuda(text: str) -> bool:
    """Whether an error on a CUDA device makes CUDA unusable for this process.

    After a failed assertion or an access out of bounds in a kernel, all later calls in the same
    process fail in the same way.
    """
    return "CUDA error:" in text
