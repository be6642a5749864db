"""Error handling per video: an error for one video becomes its reason, and affects only it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from pvio.errors import (
    CacheError,
    CollectionError,
    ConfigError,
    JobError,
    NoSpaceLeft,
    NotWritable,
    PvioError,
    UnreadableVideo,
    no_space,
)
from pvio.text import printable

logger = logging.getLogger(__name__)

# Errors of the system when no file at all can be opened or written.
_SYSTEM_ERRORS = {
    errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
}  # fmt: skip
_LONGEST_REASON = 300
# Errors that no single video causes.
_OF_ALL = (CacheError, NoSpaceLeft, NotWritable, ConfigError, CollectionError, ImportError)


def reason_for_video(error: Exception, path: str, doing: str, *shared: str | Path) -> str:
    """The reason for a video at which an error was raised; its traceback is logged.

    Call it while the error is handled: an error that concerns all videos is raised again.

    Args:
        error: raised for this video, by any library.
        path: of the video, for the log.
        doing: the operation, for the log, such as "indexing".
        shared: folders that all videos need, such as the cache.

    Returns:
        One line of text.

    Raises:
        NoSpaceLeft: when a disk is full.
        Exception: the error itself, when `concerns_all`.
    """
    if text := no_space(error):
        raise NoSpaceLeft(text) from error
    if concerns_all(error, *shared):
        raise error
    if isinstance(error, UnreadableVideo):
        return error.reason
    logger.error("%s: %s failed", printable(path), doing, exc_info=error)
    return describe(error)


def concerns_all(error: Exception, *shared: str | Path) -> bool:
    """Whether an error concerns all videos, so that the stage must end.

    These are

    * errors of the cache (`CacheError`, `LostEntry`), and of the system at a path in one of the
      `shared` folders: all videos need these;
    * a full disk or quota, a read-only file system, too many open files: the next video would
      fail as well;
    * invalid settings (`ConfigError`, `CollectionError`), and a library that is not
      installed or cannot be loaded (`ImportError`).

    All other exceptions affect only this video, with `MemoryError`: its index or one of its frames
    is too large. Other classes than `Exception` (Ctrl-C, SIGTERM) belong to no video.

    Args:
        error: an exception that was raised for a video.
        shared: folders that all videos need.
    """
    if isinstance(error, _OF_ALL):
        return True
    if not isinstance(error, OSError):
        return False
    if error.errno in _SYSTEM_ERRORS:
        return True
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return any(_is_inside(os.fsdecode(name), folder) for name in names for folder in shared)


@contextlib.contextmanager
def start_of_job() -> Iterator[None]:
    """A context in which a model is loaded; a failure there would affect every video.

    Raises:
        JobError: instead of any other error, with its text; its cause is the model's error.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        cause = error.__cause__ if isinstance(error, PvioError) else error
        raise JobError(describe(error, longest=2000)) from cause


def describe(error: BaseException, longest: int = _LONGEST_REASON) -> str:
    """An error as one line: its own text where pvio raised it, else with its type."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the text of an exception is code of its library
        text = ""
    if not isinstance(error, PvioError):
        kind = type(error).__name__
        text = f"{kind}: {text} (see the log)" if text else f"{kind} (see the log)"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _is_inside(path: str, folder: str | Path) -> bool:
    inner, outer = os.path.abspath(path), os.path.abspath(folder)
    return inner == outer or inner.startswith(outer + os.sep)
