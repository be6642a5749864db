"""Files that appear as a whole: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pvio.errors import on_disk_of
from pvio.text import json_text

# What atomic_path() calls its files.
_TEMPORARY = re.compile(r"\.(?P<here>\w+)-(?P<pid>\d+)-[0-9a-f]{12}\.tmp")
_SECONDS_UNTIL_GIVEN_UP = 24 * 3600.0


@contextlib.contextmanager
def atomic_path(
    final: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """A temporary path, renamed to `final` when the block ends without an exception.

    Args:
        final: path of the file.
        folder: of the temporary file, on the same file system; that of `final` when None.

    Raises:
        NotWritable: when one of the folders is read-only.
    """
    final = Path(final)
    folder = final.parent if folder is None else Path(folder)
    for each in {final.parent, folder}:
        if not each.is_dir():  # a server need not be asked to make what its client knows of
            with on_disk_of(each.parent):
                each.mkdir(parents=True, exist_ok=True)
    # The ending stays last: encoders choose the container by it.
    temporary = folder / f"{temporary_name()}{final.suffix}"
    try:
        with on_disk_of(folder):
            yield temporary
        with on_disk_of(final.parent):
            os.replace(temporary, final)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def temporary_name(prefix: str = "") -> str:
    """A name that states the process that uses it, see `remove_stale_temporaries`."""
    return f"{prefix}.{_here()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp"


def remove_stale_temporaries(folder: str | os.PathLike[str], pid: int | None = None) -> int:
    """Remove temporary files and folders whose writers no longer run.

    Those of other hosts, whose processes are not seen from here, are removed after a day.

    Args:
        folder: of the temporary files.
        pid: of a process of this host that has ended; None for all that have.

    Returns:
        The number of removed files and folders.
    """
    n = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.search(entry.name)
            if match is None:
                continue
            writer = int(match["pid"])
            if match["here"] == _here():
                is_stale = writer == pid if pid is not None else not _is_running(writer)
            else:
                is_stale = pid is None and _is_old(entry)
            if is_stale:
                n += 1
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
    return n


def link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file, or a copy where the file system has no hard links."""
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS):
            raise
        shutil.copy2(source, target, follow_symlinks=False)


@functools.cache
def _here() -> str:
    """The scope of process numbers: a host since it was started, and a namespace of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:
        boot, namespace = re.sub(r"\W", "_", socket.gethostname()), "0"
    return f"{boot}_{namespace}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _is_old(entry: os.DirEntry[str]) -> bool:
    try:
        return time.time() - entry.stat().st_mtime > _SECONDS_UNTIL_GIVEN_UP
    except OSError:
        return False


def write_text(final: str | os.PathLike[str], text: str) -> None:
    """Write a text file so that it appears whole or not at all.

    In UTF-8; of a character that is none, as in a name of other bytes, its escape is written.
    """
    with atomic_path(final) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(final: str | os.PathLike[str], data: Any) -> None:
    """Write JSON so that it appears whole or not at all; dataclasses become objects.

    Names that are no UTF-8 (`os.fsdecode`) are read again as they are.
    """
    write_text(final, json_text(data, default=vars) + "\n")
