"""A folder of products that changes as a whole: made beside the old one and put in its place."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from pvio.errors import PvioError

# Names what the products were made with.
RUN_FILE = ".run.json"

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Snapshot:
    """The next state of a folder; the old one stays as it is until `publish`.

    Args:
        folder: of the products; may be absent, or a link to a folder.

    Attributes:
        folder: the folder itself.
        next: where the products of the next state are put.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(os.path.realpath(folder))
        self.next = self.folder.with_name(f".{self.folder.name}.next")
        self._old = self.folder.with_name(f".{self.folder.name}.old")
        if self._old.exists() and not self.folder.exists():  # it ended between two renames
            os.rename(self._old, self.folder)
        for left in (self.next, self._old):
            shutil.rmtree(left, ignore_errors=True)
        self.next.mkdir(parents=True)

    def path(self, name: str) -> Path:
        """Where a product of the next state is written; its folder is there."""
        path = self.next / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, name: str) -> None:
        """Take a product over from the old state as it is."""
        _link(self.folder / name, self.path(name))

    def publish(self, owned: Collection[str]) -> None:
        """Put the next state in the place of the old one, which is removed.

        Files of the old state that are nobody's products are taken over.

        Args:
            owned: names of files of the old state that may go.

        Raises:
            PvioError: when the folder cannot be renamed.
        """
        self._take_over_others(set(owned))
        if self.folder.exists():
            shutil.copymode(self.folder, self.next)
        try:
            if not self.folder.exists():
                os.rename(self.next, self.folder)
            elif not _exchange(self.next, self.folder):
                os.rename(self.folder, self._old)
                os.rename(self.next, self.folder)
        except OSError as error:
            raise PvioError(
                f"{self.folder} cannot be replaced: {error.strerror}. It must be an ordinary "
                "folder that can be renamed, no mount point; the folder above must be writable"
            ) from error
        for old in (self.next, self._old):
            shutil.rmtree(old, ignore_errors=True)

    def _take_over_others(self, owned: set[str]) -> None:
        for folder, _, files in os.walk(self.folder):
            for file in files:
                path = Path(folder, file)
                name = path.relative_to(self.folder).as_posix()
                if name not in owned and not os.path.lexists(self.next / name):
                    self.keep(name)


def _link(source: Path, target: Path) -> None:
    """Another name for a file, or a copy where the file system has no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names at once; whether the system can."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
