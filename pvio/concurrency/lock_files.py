"""Folders and files for locks, that only this user can change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def own_folder(folder: Path) -> None:
    """Make a folder that is this user's alone, where all users may write.

    Raises:
        OSError: when it cannot be made, or what is there is a link, no folder, or somebody else's.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise PermissionError(
            errno.EACCES, "it is no folder of this user; another one may have made it", str(folder)
        )
    if facts.st_mode & 0o022:
        folder.chmod(0o700)


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor of a file, or folder, of this user; programs do not inherit it.

    Raises:
        OSError: when it cannot be opened, or is a link, or somebody else's.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EACCES, "it is another user's", os.fspath(path))
    return descriptor
