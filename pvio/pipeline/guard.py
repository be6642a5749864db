"""The border of one video: whatever is raised for it becomes its reason, and costs it alone."""

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

# What the system says when no file at all can be opened or written.
_FAULTS_OF_THE_SYSTEM = {
    errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
}  # fmt: skip
_LONGEST_REASON = 300
# Errors that no single video is to blame for.
_OF_ALL = (CacheError, NoSpaceLeft, NotWritable, ConfigError, CollectionError, ImportError)


def reason_for_video(error: Exception, path: str, doing: str, *shared: str | Path) -> str:
    """The reason to give for a video at which an error was raised; its traceback is logged.

    To be called while the error is handled: an error that concerns all videos is raised again.

    Args:
        error: whatever was raised for this video, by any library.
        path: of the video, for the log.
        doing: what was done with it, for the log, such as "indexing".
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
    logger.error("%s: %s it failed", printable(path), doing, exc_info=error)
    return describe(error)


def concerns_all(error: Exception, *shared: str | Path) -> bool:
    """Whether an error is no matter of one video, so that the stage has to end.

    That is so for

    * errors of the cache (`CacheError`, `LostEntry`), and of the system at a path in one of the
      `shared` folders: no video can do without these;
    * a full disk or quota, a read-only file system, too many open files: the next video would
      meet them, too;
    * settings that are wrong (`ConfigError`, `CollectionError`), and a library that is not
      installed or cannot be loaded (`ImportError`).

    All other exceptions cost the one video, `MemoryError` included: its index or one of its frames
    is too large. What is no `Exception` (Ctrl-C, SIGTERM) is nobody's.

    Args:
        error: an exception that was raised for a video.
        shared: folders that all videos need.
    """
    if isinstance(error, _OF_ALL):
        return True
    if not isinstance(error, OSError):
        return False
    if error.errno in _FAULTS_OF_THE_SYSTEM:
        return True
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return any(_lies_in(os.fsdecode(name), folder) for name in names for folder in shared)


@contextlib.contextmanager
def start_of_job() -> Iterator[None]:
    """A context in which a model is loaded: when that fails, it would for every video.

    Raises:
        JobError: in place of any other error, with its text; caused by what the model raised.
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
    except Exception:  # an exception's text is code of its library, too
        text = ""
    if not isinstance(error, PvioError):
        kind = type(error).__name__
        text = f"{kind}: {text} (see the log)" if text else f"{kind} (see the log)"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _lies_in(path: str, folder: str | Path) -> bool:
    inner, outer = os.path.abspath(path), os.path.abspath(folder)
    return inner == outer or inner.startswith(outer + os.sep)
