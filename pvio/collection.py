"""From the `videos` setting to the collection: which videos there are and what they are called."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pvio.errors import CollectionError
from pvio.image_names import (
    asks_for_images,
    expand_images,
    image_files,
    is_image_name,
    is_sequence,
    sequence_name,
)

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".ogv"),
        *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".mxf", ".h264", ".hevc", ".y4m"),
    }
)
# Marks a results folder, and lists what is in it.
PRODUCTS_FILE = ".products.json"
LIST_SUFFIXES = frozenset({".txt", ".tsv"})


@dataclass(frozen=True)
class Source:
    """One video of the collection.

    Attributes:
        path: absolute path of the file, or of the folder whose images are the frames; or a
            pattern of some of a folder's images, such as `/data/frames/cam1_*.png`.
        name: path of its results below `results/predictions` and `results/videos`, no ending.
        is_image_folder: whether `path` is a folder or a pattern of images.
    """

    path: str
    name: str
    is_image_folder: bool = False


def find_sources(entries: Iterable[str]) -> list[Source]:
    """Resolve the `videos` setting.

    Args:
        entries: files, globs (`**` allowed), folders (searched for videos; a folder that holds
            images and no video is one image folder), patterns of images (`frames/*.png`,
            `frames/%05d.png`: a sequence), or `.txt`/`.tsv` lists of such entries, one a line,
            relative to the list's folder.

    Returns:
        The videos in the order of their paths, each once, with unique names. A named file that
        does not exist is kept: it is reported as unreadable, and the other videos go on.

    Raises:
        CollectionError: when a pattern, folder or list holds no video.
    """
    found: dict[str, bool] = {}
    for entry in entries:
        for path, is_folder in _expand(entry):
            found[os.path.abspath(path)] = is_folder
    if not found:
        raise CollectionError("the `videos` setting names no video")
    paths = sorted(found)
    return [
        Source(path, name, found[path])
        for path, name in zip(paths, result_names(paths, found), strict=True)
    ]


def result_names(paths: list[str], folders: dict[str, bool] | None = None) -> list[str]:
    """Names below the paths' common folder, without ending; colliding names keep their endings."""
    folders = folders or {}
    plain = [sequence_name(path) if is_sequence(path) else path for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in plain])
    full = [os.path.relpath(path, root).replace(os.sep, "/") for path in plain]
    bare = [
        name if folders.get(path) else os.path.splitext(name)[0]
        for path, name in zip(paths, full, strict=True)
    ]
    # Compared without case: `A` and `a` are one file on many file systems.
    names, whole = bare, Counter(name.casefold() for name in full)
    while True:
        seen = Counter(name.casefold() for name in names)
        # A bare name gives way to a whole one as well: `clip.mp4.mkv` beside `clip.mp4`.
        chosen = [
            long if seen[name.casefold()] > 1 else name
            for name, long in zip(names, full, strict=True)
        ]
        if chosen == names:
            break
        names = chosen
    # What differs in case alone is told apart by a piece of the path's digest.
    return [
        f"{name}~{_short_digest(path)}"
        if whole[name.casefold()] > 1 and seen[name.casefold()] > 1
        else name
        for name, path in zip(names, paths, strict=True)
    ]


def _short_digest(path: str) -> str:
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()


def fingerprint(sources: Iterable[Source]) -> str:
    """Digest of path, name, size, and times of change of every video: one `stat` each."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sources:
        digest.update(
            f"{source.path}\0{source.name}\0{stat_key(source.path)}\n".encode(
                "utf-8", "surrogateescape"
            )
        )
        if source.is_image_folder:
            for image in image_files(source.path):
                facts = f"{image}\0{stat_key(image)}\n"
                digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def stat_key(path: str) -> str:
    """`size:mtime_ns:ctime_ns` of a file, or `absent`."""
    try:
        facts = os.stat(path)
    except OSError:
        return "absent"
    return f"{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"


def _expand(entry: str, *, nested: bool = False) -> Iterator[tuple[str, bool]]:
    entry = os.path.expanduser(entry)
    suffix = os.path.splitext(entry)[1].lower()
    if os.path.isdir(entry):
        yield from _search(entry)
    elif os.path.isfile(entry):
        if suffix in LIST_SUFFIXES and not nested:
            yield from _read_list(entry)
        else:
            yield entry, False
    elif asks_for_images(entry):
        found = expand_images(entry)
        if not found:
            raise CollectionError(
                f"videos: no image matches the pattern {entry!r} (seen from {os.getcwd()})"
            )
        yield from found
    elif glob.has_magic(entry):
        matches = sorted(glob.glob(entry, recursive=True))
        for match in matches:
            if os.path.isdir(match):
                yield from _search(match, required=False)
            elif (
                _names_suffix(entry)
                and os.path.splitext(match)[1].lower() in LIST_SUFFIXES
                and not nested
            ):
                yield from _read_list(match)
            elif os.path.splitext(match)[1].lower() in VIDEO_SUFFIXES or _names_suffix(entry):
                yield match, False
        if not matches:
            raise CollectionError(
                f"videos: no file matches the pattern {entry!r} (seen from {os.getcwd()})"
            )
    elif suffix in LIST_SUFFIXES and not nested:
        raise CollectionError(f"videos: the list file {entry!r} does not exist")
    elif suffix:
        yield entry, False
    else:
        raise CollectionError(
            f"videos: {entry!r} is neither a file, a folder nor a pattern (seen from {os.getcwd()})"
        )


def _names_suffix(pattern: str) -> bool:
    """Whether a glob asks for files of a certain ending, so that unusual endings are wanted."""
    suffix = os.path.splitext(pattern)[1]
    return bool(suffix) and not glob.has_magic(suffix)


def _search(folder: str, *, required: bool = True) -> Iterator[tuple[str, bool]]:
    """Videos below a folder; a folder of images without videos counts as one video."""
    empty = True
    visited: set[str] = set()  # links are followed, but not in circles
    for root, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(root) in visited:
            folders.clear()
            continue
        visited.add(os.path.realpath(root))
        if PRODUCTS_FILE in files:  # the results of a run are no input
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixes = {name: os.path.splitext(name)[1].lower() for name in files if name[0] != "."}
        videos = sorted(name for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES)
        for name in videos:
            empty = False
            yield os.path.join(root, name), False
        if not videos and any(is_image_name(name) for name in files):
            empty = False
            yield root, True
    if empty and required:
        raise CollectionError(
            f"videos: no video and no image below the folder {folder!r}; endings looked for: "
            + " ".join(sorted(VIDEO_SUFFIXES))
        )


def _read_list(list_path: str) -> Iterator[tuple[str, bool]]:
    """Entries of a text list: one a line, first column of a .tsv, `#` starts a comment line."""
    base = Path(list_path).parent
    is_table = list_path.lower().endswith(".tsv")
    try:
        lines = Path(list_path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise CollectionError(f"videos: cannot read the list {list_path!r}: {error}") from error
    entries = [line.split("\t")[0] if is_table else line for line in lines]
    entries = [entry.strip() for entry in entries]
    if is_table and entries and entries[0].lower() in ("path", "video", "file", "videos"):
        entries = entries[1:]
    entries = [entry for entry in entries if entry and not entry.startswith("#")]
    if not entries:
        raise CollectionError(f"videos: the list {list_path!r} is empty")
    for entry in entries:
        path = base / os.path.expanduser(entry)
        if glob.has_magic(entry) and not path.exists() and not os.path.isabs(entry):
            path = Path(glob.escape(str(base))) / entry  # the folder's own brackets are no pattern
        yield from _expand(str(path), nested=True)
