"""Copies of videos on a node's own disk, which jobs decode instead of distant originals.

A copy is called `<staging_dir>/pvio-<uid>/<digest><suffix>`. The jobs of a node share it: each job
that reads it holds a shared lock (flock) on it, and the last one removes it. A job that makes,
takes or leaves a copy holds the exclusive lock of the file `<copy>.lock` meanwhile, so one job
makes it and others wait. Locks are released when their process ends, for any reason. The next
job removes copies that are not locked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pvio.cache.atomic import remove_stale_temporaries, temporary_name
from pvio.collection.image_names import image_files
from pvio.collection.sources import Source
from pvio.concurrency.lock_files import open_own, own_folder
from pvio.errors import UnreadableVideo
from pvio.media.index.content import combined_digest
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20


@contextlib.contextmanager
def staging_folder(setting: str | None) -> Iterator[Path | None]:
    """The folder of this user's copies; unused copies are removed from it, also at the end.

    Args:
        setting: `staging_dir`, in which environment variables are expanded here.

    Yields:
        None when nothing is set, and when the folder cannot be used, with a warning.
    """
    folder = None
    if setting is not None:
        try:
            folder = _prepared(setting)
        except OSError as error:
            _warn(setting, error)
    try:
        yield folder
    finally:
        if folder is not None:
            _clear(folder)


class Stager:
    """Copies the videos that a process works on, one at a time.

    Args:
        folder: of the copies; None to decode all videos where they are.
    """

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._digest = ""  # of the current video
        self._copy: Path | None = None
        self._lock = -1  # descriptor that holds the copy
        self._has_warned = False

    def stage(self, index: FrameIndex) -> FrameIndex:
        """The index of a video with a copy to decode; unchanged if no copy can be made.

        The copy exists until this is called for another video, or the process ends.
        """
        if self._folder is None:
            return index
        is_lost = self._copy is not None and not self._copy.exists()
        if index.content_digest != self._digest or is_lost:
            self._turn_to(index, self._folder)
        return dataclasses.replace(index, staged_path=str(self._copy)) if self._copy else index

    def _turn_to(self, index: FrameIndex, folder: Path) -> None:
        self._digest = index.content_digest
        try:
            self._leave()
            suffix = "" if index.is_image_folder else os.path.splitext(index.path)[1]
            copy = folder / f"{index.content_digest}{suffix}"
            self._lock = _acquire_copy(index, copy)
            self._copy = copy
        except UnreadableVideo as error:
            logger.warning("%s; the video is not copied", error)
        except OSError as error:
            if not self._has_warned:
                _warn(folder, error)
            self._has_warned = True

    def _leave(self) -> None:
        if self._copy is not None:
            copy, self._copy = self._copy, None
            os.close(self._lock)
            _remove_if_free(copy)


def _prepared(setting: str) -> Path:
    """The folder of copies, made and cleared.

    Raises:
        OSError: when it cannot be used.
    """
    for name in re.findall(r"\$\{?(\w+)", setting):
        if not os.environ.get(name):
            raise OSError(errno.ENOENT, f"the environment variable {name} is not set")
    above = os.path.abspath(os.path.expanduser(os.path.expandvars(setting)))
    folder = Path(above, f"pvio-{os.getuid()}")
    own_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    _clear(folder)
    return folder


def _clear(folder: Path) -> None:
    """Remove the copies that no job holds, and partial copies of killed jobs."""
    remove_stale_temporaries(folder)
    with contextlib.suppress(OSError):
        names = {name.removesuffix(".lock") for name in os.listdir(folder) if name[0] != "."}
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_free(folder / name, fcntl.LOCK_NB)


def _acquire_copy(index: FrameIndex, copy: Path) -> int:
    """A descriptor that holds the copy of a video, which is made if it is not there.

    Raises:
        UnreadableVideo: when the video cannot be read, or its content has changed.
        OSError: when the disk of the copies is full, or fails in another way.
    """
    with _exclusive_lock(copy):
        if not copy.exists():
            _make(index, copy)
        lock = open_own(copy, os.O_RDONLY)  # not inherited by programs that this process starts
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        return lock


def _remove_if_free(copy: Path, how: int = 0) -> None:
    """Remove a copy and its lock file, unless another job holds it; see `_exclusive_lock`."""
    with _exclusive_lock(copy, how) as gate:
        if copy.exists():
            lock = open_own(copy, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # So that this name never has a part of a folder.
                leftover = copy.with_name(temporary_name())
                os.rename(copy, leftover)
                _remove(leftover)
            except BlockingIOError:
                return
            finally:
                os.close(lock)
        os.unlink(gate)


@contextlib.contextmanager
def _exclusive_lock(copy: Path, how: int = 0) -> Iterator[str]:
    """The lock file of a copy, with its exclusive lock.

    Raises:
        BlockingIOError: when another process has it, and `how` is LOCK_NB.
    """
    gate = f"{copy}.lock"
    while True:
        lock = open_own(gate, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | how)
            if os.fstat(lock).st_nlink:  # else its previous owner has removed the file
                yield gate
                return
        finally:
            os.close(lock)


def _make(index: FrameIndex, copy: Path) -> None:
    """Copy a video, and check that its content is that of the index; see `_acquire_copy`."""
    began = time.perf_counter()
    _clear(copy.parent)
    size = _size(index)
    if shutil.disk_usage(copy.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    temporary = copy.with_name(temporary_name())

    def copied(file: str) -> str:
        return _copied(file, temporary / os.path.basename(file))

    try:
        if index.is_image_folder:
            temporary.mkdir()
            digest = combined_digest(Source(index.path, "", True), copied)
        else:
            digest = _copied(index.path, temporary)
        if digest != index.content_digest:
            raise UnreadableVideo(index.path, "the content is not that of the probed video")
        os.rename(temporary, copy)
    except BaseException:
        _remove(temporary)
        raise
    seconds = time.perf_counter() - began
    logger.info("%s: %.1f MB copied to %s in %.1f s", index.path, size / 1e6, copy.parent, seconds)


def _copied(source: str, target: Path) -> str:
    """Copy a file; its digest, see `file_digest`."""
    digest = hashlib.blake2b(digest_size=16)
    with open(target, "xb") as file:
        for block in _blocks(source):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _blocks(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise UnreadableVideo(path, str(error)) from error


def _size(index: FrameIndex) -> int:
    try:
        files = image_files(index.path) if index.is_image_folder else [index.path]
        return sum(os.stat(file).st_size for file in files)
    except OSError as error:
        raise UnreadableVideo(index.path, str(error)) from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _warn(where: object, error: OSError) -> None:
    logger.warning(
        "staging_dir: %s: %s; videos are read from their original location",
        where,
        error.strerror or error,
    )
