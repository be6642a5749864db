"""A folder of products that changes as a whole: made next to the old one, which it replaces."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from pvio.cache.atomic import link_or_copy, remove_stale_temporaries, temporary_name
from pvio.errors import NotWritable, PvioError, on_disk_of

logger = logging.getLogger(__name__)

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Snapshot:
    """The next state of a folder; the old one stays as it is until `publish`.

    Args:
        folder: of the products; may be absent, or a link to a folder.

    Attributes:
        folder: the folder itself.
        next: where the products of the next state are put.

    Raises:
        NotWritable: when a file has the name of the folder, or the disk is read-only.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        check_is_folder(folder)
        self.folder = Path(os.path.realpath(folder))
        self._old = self.folder.with_name(f".{self.folder.name}.old")
        if self._old.exists() and not self.folder.exists():  # it ended between two renames
            os.rename(self._old, self.folder)
        # Of its own: another process may make a next state at the same time.
        self.next = self.folder.with_name(temporary_name(f".{self.folder.name}"))
        with on_disk_of(self.folder.parent):
            self.next.mkdir(parents=True)
        remove_stale_temporaries(self.folder.parent)

    def path(self, name: str) -> Path:
        """Path of a product of the next state; its folder is there."""
        path = self.next / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, owned: Collection[str]) -> None:
        """Replace the old state by the next one.

        Files of the old state that are not products are kept. One that has the name of a new
        product is set aside, see `set_aside`.

        Args:
            owned: names of files of the old state that may go.

        Raises:
            PvioError: when the folder cannot be renamed.
        """
        kept = _take_over(self.folder, self.next, set(owned), sets_aside=True)
        _flush(self.next)
        if self.folder.exists():
            shutil.copymode(self.folder, self.next)
        old = self.next
        try:
            if not self.folder.exists():
                os.rename(self.next, self.folder)
                return
            if not _exchange(self.next, self.folder):
                shutil.rmtree(self._old, ignore_errors=True)
                os.rename(self.folder, self._old)
                os.rename(self.next, self.folder)
                old = self._old
        except OSError as error:
            raise PvioError(
                f"{self.folder} cannot be replaced: {error.strerror}. It must be an ordinary "
                "folder that can be renamed, no mount point; the folder above must be writable"
            ) from error
        _take_over(old, self.folder, {*owned, *kept})  # files that were added in the meantime
        shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Remove the next state, unless it was published."""
        shutil.rmtree(self.next, ignore_errors=True)


def check_is_folder(results: str | os.PathLike[str]) -> None:
    """Check that results can be a folder.

    Raises:
        NotWritable: when a file has this name.
    """
    if os.path.exists(results) and not os.path.isdir(results):
        raise NotWritable(
            f"{os.fspath(results)!r} is a file, but the results need a folder of this name. Rename "
            "the file, and run the same command again: finished segments are kept"
        )


def set_aside(path: Path) -> None:
    """Rename a file that pvio did not write, and whose name a product needs; nothing without one.

    The new name ends in ".old", with a number if there is such a file already.
    """
    if os.path.lexists(path):
        aside = _free_name(path)
        os.rename(path, aside)
        _log_aside(path, aside)


def _free_name(path: Path) -> Path:
    names = (f"{path.name}.old{n or ''}" for n in itertools.count())
    return next(each for each in map(path.with_name, names) if not os.path.lexists(each))


def _log_aside(path: Path, aside: Path) -> None:
    logger.warning("%s was not written by pvio: it is called %s now", path, aside.name)


def _take_over(
    source: Path, target: Path, owned: set[str], *, sets_aside: bool = False
) -> set[str]:
    """Link files, links and empty folders that are not owned, and missing, to another folder.

    Args:
        source: folder of the files.
        target: folder that gets the links.
        owned: names of files that are left out.
        sets_aside: whether files that are not missing get another name.

    Returns:
        Names of files that were linked.
    """
    found: set[str] = set()
    for root, folders, files in os.walk(source):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for name in (*files, *links):
            path = Path(root, name)
            inner = path.relative_to(source)
            if inner.as_posix() in owned:
                continue
            new = target / inner
            if os.path.lexists(new):
                if not sets_aside:
                    continue
                new = _free_name(new)
                _log_aside(path, new)
            new.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, new)
            found.add(inner.as_posix())
        if not files and not folders:
            (target / os.path.relpath(root, source)).mkdir(parents=True, exist_ok=True)
    return found


def _flush(folder: Path) -> None:
    """Flush the file system of a folder to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(number)
    except (OSError, AttributeError):
        os.sync()
    finally:
        os.close(number)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False if the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
