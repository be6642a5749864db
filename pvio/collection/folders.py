"""Folders and patterns: what is in them, without passing over what cannot be looked at.

`os.walk` and `glob.glob` skip folders that cannot be listed. Here that is an error: its videos
would be missing from the collection, and their results with them.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
import stat
from collections import deque
from collections.abc import Iterator

from pvio.errors import CollectionError
from pvio.layout import PRODUCTS_FILE, RUN_FILE

# Errors that mean that there is no such file; others leave it open.
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
# What looks like the ending of a file, not like a part of a folder's name (`run.2026`).
_FILE_ENDING = re.compile(r"\.[A-Za-z]\w{0,4}")


def list_folder(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, by name.

    Raises:
        CollectionError: when the folder cannot be listed or entered, naming it.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise cannot_look_at(folder, error) from error
    if found and not os.access(folder, os.X_OK):  # names only: no file in it could be opened
        raise cannot_look_at(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return found


def cannot_look_at(path: str, error: OSError) -> CollectionError:
    """The error that a folder, or what is in it, cannot be looked at."""
    return CollectionError(
        f"videos: cannot look at {path!r}: {error.strerror or error}. Without it videos would be "
        "missing, and their results would be removed; so nothing was done. Make it readable (is "
        "its disk mounted?), or remove it from `videos`"
    )


def exists(path: str) -> bool:
    """Whether there is a file, folder or link of this name.

    Raises:
        CollectionError: when that cannot be determined.
    """
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise cannot_look_at(path, error) from error
    return True


def kind_of(path: str) -> str:
    """One of "folder", "file" (also devices and the like), and "" when there is nothing.

    Raises:
        CollectionError: when that cannot be found out, or the path is not valid.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in ABSENT:
            return ""
        raise cannot_look_at(path, error) from error
    except ValueError as error:
        raise CollectionError(f"videos: {path!r} cannot be a path: {error}") from error
    return "folder" if stat.S_ISDIR(mode) else "file"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one.

    Raises:
        CollectionError: when that cannot be determined; also of a broken link, unless its name has
            the ending of a file, since it may have led to a folder of videos.
    """
    try:
        if not entry.is_symlink():
            return entry.is_dir()
        return stat.S_ISDIR(os.stat(entry.path).st_mode)
    except OSError as error:
        ending = os.path.splitext(entry.name)[1]
        is_circle = error.errno == errno.ELOOP
        if error.errno in ABSENT and (is_circle or _FILE_ENDING.fullmatch(ending)):
            return False
        raise cannot_look_at(entry.path, error) from error


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """A folder and all below it, each with the names of its files.

    Hidden folders are left out, and those that hold results of pvio. Links are followed, but no
    folder is visited twice; one that is found with and without a link is taken without.

    Raises:
        CollectionError: when one cannot be listed.
    """
    visited: set[str] = set()
    links = deque([folder])
    while links:
        below = [links.popleft()]
        while below:
            here = below.pop()
            real = os.path.realpath(here)
            if real in visited:
                continue
            visited.add(real)
            entries = list_folder(here)
            if any(entry.name in (PRODUCTS_FILE, RUN_FILE) for entry in entries):
                continue
            files = []
            for entry in entries:
                if entry.name[0] == "." and not entry.is_file(follow_symlinks=False):
                    continue
                if not is_folder(entry):
                    files.append(entry.name)
                else:
                    (links if entry.is_symlink() else below).append(entry.path)
            yield here, files


def match(pattern: str) -> list[str]:
    """Files and folders that a pattern matches, sorted.

    `*`, `?` and `[...]` match within a name, `**` any number of folders. Names that start with a
    dot are matched only where the pattern has one.

    Raises:
        CollectionError: when a folder that the pattern leads to cannot be listed.
    """
    drive = "/" if pattern.startswith("/") else ""
    parts = [part for part in pattern.split("/") if part]
    found = set(_match(drive, parts))
    if pattern.endswith("/"):
        found = {path for path in found if kind_of(path) == "folder"}
    return sorted(found)


def is_within(path: str, pattern: str) -> bool:
    """Whether a path is matched by a pattern, or is in a folder that is.

    Args:
        path: absolute.
        pattern: absolute, as for `match`; a path without wildcards matches itself.
    """
    if not glob.has_magic(pattern):
        return path == pattern or path.startswith(pattern.rstrip("/") + "/")
    return _matches_parts(path.split("/"), pattern.split("/"))


def _matches_parts(names: list[str], parts: list[str]) -> bool:
    """Whether a pattern matches the first of these names, one after the other."""
    if not parts:
        return True
    if parts[0] == "**":
        return any(_matches_parts(names[i:], parts[1:]) for i in range(len(names)))
    if not names or (names[0][:1] == "." and parts[0][:1] != "."):
        return False
    return fnmatch.fnmatchcase(names[0], parts[0]) and _matches_parts(names[1:], parts[1:])


def fixed_part(pattern: str) -> str:
    """The folder of a pattern up to its first part with a wildcard."""
    parts = pattern.split("/")
    number = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:number]) or ("/" if pattern.startswith("/") else ".")


def _match(folder: str, parts: list[str]) -> Iterator[str]:
    """The paths that the parts of a pattern match in a folder ("" for the working directory)."""
    while parts and not glob.has_magic(parts[0]):
        folder, parts = os.path.join(folder, parts[0]), parts[1:]
    if not parts:
        if exists(folder):
            yield folder
        return
    if kind_of(folder or ".") != "folder":
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        for each, files in walk(folder or "."):
            below = os.path.relpath(each, folder or ".")
            here = folder if below == "." else os.path.join(folder, below)
            if rest:
                yield from _match(here, rest)
            else:
                yield here or "."
                yield from (os.path.join(here, name) for name in files if name[0] != ".")
        return
    for entry in list_folder(folder or "."):
        if entry.name[0] == "." and first[0] != ".":
            continue
        if fnmatch.fnmatchcase(entry.name, first):
            path = os.path.join(folder, entry.name)
            if not rest:
                yield path
            elif is_folder(entry):
                yield from _match(path, rest)
