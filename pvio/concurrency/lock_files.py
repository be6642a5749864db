"""Folders and files for locks, that only this user can change."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path


def own_folder(folder: Path) -> None:
    """Make a folder that only this user can use, where all users may write.

    Raises:
        OSError: when it cannot be made, or a link, a file or another user's folder exists there.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(
            errno.EACCES, "not a folder of this user; another user may have created it", str(folder)
        )
    if status.st_mode & 0o022:
        folder.chmod(0o700)


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor of a file, or folder, of this user; programs do not inherit it.

    Raises:
        OSError: when it cannot be opened, or is a link, or belongs to another user.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EACCES, "it belongs to another user", os.fspath(path))
    return descriptor
