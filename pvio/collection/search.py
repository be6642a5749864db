"""From the `videos` setting to the collection: which videos there are and what they are called."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pvio.collection.folders import (
    exists,
    fixed_part,
    is_within,
    kind_of,
    match,
    walk,
)
from pvio.collection.image_names import (
    asks_for_images,
    image_files,
    is_image_name,
    sequence_name,
    videos_of_folder,
)
from pvio.collection.lists import LIST_SUFFIXES, line_of, read_list
from pvio.collection.names import Found, result_names
from pvio.collection.sources import VIDEO_SUFFIXES, Source
from pvio.errors import CollectionError
from pvio.text import printable

logger = logging.getLogger(__name__)


class _NoEntryError(CollectionError):
    """An entry is nothing that `videos` may have."""


def find_sources(
    entries: Iterable[str],
    known: Mapping[str, str] | None = None,
    report: Callable[[str], None] = logger.info,
    exclude: Iterable[str] = (),
) -> list[Source]:
    """Resolve the `videos` setting.

    Args:
        entries: files, globs (`**` allowed), folders (searched for videos; a folder that holds
            images and no video is one image folder), patterns of images (`frames/*.png`,
            `frames/%05d.png`: a sequence), or `.txt`, `.tsv` or `.csv` lists of such entries, one
            a line, relative to the list's folder.
        known: names that videos have already, by path, which they keep; see `read_names`.
        report: called with one line about the files that were ignored, if there are any, and
            with one for each entry of `exclude` that matches no video.
        exclude: files, folders and globs that are left out, relative to the working folder; a
            name without a slash is one of a file or folder anywhere.

    Returns:
        The videos in the order of their paths, each once, with unique names. A named file that
        does not exist is kept: it is reported as unreadable, and the other videos continue.

    Raises:
        CollectionError: when a pattern, folder or list holds no video, and when a folder cannot be
            looked at.
    """
    videos, passed = _collected(entries)
    _leave_out(videos, exclude, report)
    for video in videos.values():  # what another entry asks for
        if video.is_image_folder and any(map(is_image_name, passed)):
            passed.difference_update(image_files(video.path))
    if passed := passed - set(videos):
        report(
            f"videos: ignored {printable(_counted(passed))} (a pattern with an ending, such as "
            "'*.seq' or '*.tif', takes any)"
        )
    chosen = [videos[path] for path in sorted(videos)]
    return [
        Source(video.path, name, video.is_image_folder)
        for video, name in zip(chosen, result_names(chosen, known), strict=True)
    ]


def _collected(entries: Iterable[str]) -> tuple[dict[str, Found], set[str]]:
    """The videos of all entries by path, and the files that were ignored."""
    videos: dict[str, Found] = {}
    passed: set[str] = set()
    here = os.getcwd()
    roots: dict[str, str] = {}
    for entry in entries:
        for found in _expand(entry, passed):
            path = os.path.normpath(os.path.join(here, found.path))
            root = roots.get(found.root) or os.path.abspath(found.root)
            roots[found.root] = root
            called = found.called or path
            if not called.startswith(os.path.join(root, "")):
                root = os.path.dirname(called)
            other = videos.get(path)
            # Found in several ways, the longest name counts.
            if other is None or len(root) < len(other.root):
                videos[path] = replace(found, path=path, root=root)
    if not videos:
        raise CollectionError("the `videos` setting names no video")
    return videos, passed


def _leave_out(
    videos: dict[str, Found], exclude: Iterable[str], report: Callable[[str], None]
) -> None:
    """Remove videos that `exclude` names."""
    here = os.getcwd()
    for entry in exclude:
        pattern = os.path.expanduser(entry)
        if "/" not in pattern.rstrip("/") or pattern.startswith("**/"):  # wherever it is
            pattern = f"/**/{pattern}"
        pattern = os.path.normpath(os.path.join(here, pattern))
        if not (left_out := [path for path in videos if is_within(path, pattern)]):
            report(f"exclude: no video matches {printable(entry)!r} (seen from {here})")
        for path in left_out:
            del videos[path]
    if not videos:
        raise CollectionError("the `exclude` setting leaves no video of `videos`")


def _expand(entry: str, passed: set[str], list_path: str = "") -> Iterator[Found]:
    """The videos of an entry of `videos`, or of the list that is named."""
    entry = os.path.expanduser(entry)
    suffix = os.path.splitext(entry)[1].lower()
    is_list = suffix in LIST_SUFFIXES and not list_path
    kind = kind_of(entry)
    if kind == "folder":
        yield from _search(entry, passed)
    elif kind == "file":
        if is_list:
            yield from _expand_list(entry, passed)
        else:
            yield Found(entry, os.path.dirname(entry) or ".")
    elif asks_for_images(entry):
        images = list(_expand_images(entry))
        if not images:
            raise CollectionError(
                f"videos: no image matches the pattern {entry!r} (seen from {os.getcwd()})"
            )
        yield from images
    elif glob.has_magic(entry):
        yield from _expand_pattern(entry, passed, list_path)
    elif is_list:
        raise CollectionError(f"videos: the list file {entry!r} does not exist")
    elif suffix:
        yield Found(entry, os.path.dirname(entry) or ".")
    else:
        raise _NoEntryError(
            f"videos: {entry!r} is neither a file, a folder nor a pattern (seen from {os.getcwd()})"
        )


def _expand_pattern(entry: str, passed: set[str], list_path: str) -> Iterator[Found]:
    """The videos that a glob matches, in folders and lists that it matches as well."""
    root, wants_suffix = fixed_part(entry), _names_suffix(entry)
    matches = match(entry)
    if not matches:
        raise CollectionError(
            f"videos: no file matches the pattern {entry!r} (seen from {os.getcwd()})"
        )
    searched: set[str] = set()
    with_videos: set[str] = set()
    loose: dict[str, list[str]] = {}  # images, by folder
    for each in matches:  # a folder comes before those in it
        ending = os.path.splitext(each)[1].lower()
        if kind_of(each) == "folder":
            if not any(str(above) in searched for above in Path(each).parents):
                searched.add(os.path.normpath(each))
                yield from _search(each, passed, root)
        elif wants_suffix and ending in LIST_SUFFIXES and not list_path:
            yield from _expand_list(each, passed)
        elif ending in VIDEO_SUFFIXES or wants_suffix:
            with_videos.add(os.path.dirname(each))
            yield Found(each, root)
        elif is_image_name(each):
            loose.setdefault(os.path.dirname(each), []).append(each)
        else:
            passed.add(os.path.abspath(each))
    for folder, files in loose.items():
        above = Path(folder)
        if any(str(part) in searched for part in (above, *above.parents)):
            continue
        if folder in with_videos:
            passed.update(map(os.path.abspath, files))
        elif os.path.basename(entry) in ("*", "*.*"):
            yield Found(folder or ".", root, True)
        else:
            raise CollectionError(
                f"videos: the pattern {entry!r} matches images and no video in "
                f"{folder or '.'!r}; name their ending, such as "
                f"{entry + os.path.splitext(files[0])[1]!r}, to take them as a sequence"
            )


def _expand_images(entry: str) -> Iterator[Found]:
    """The videos that a pattern of images means, in one folder or several."""
    above, name = os.path.split(entry)
    # It may have brackets itself.
    is_pattern = glob.has_magic(above) and kind_of(above) != "folder"
    for folder in match(above) if is_pattern else [above]:
        if kind_of(folder or ".") != "folder":
            continue
        for path, is_sequence in videos_of_folder(folder, name):
            called = path if path in (folder, os.curdir) or not is_sequence else sequence_name(path)
            top = os.path.dirname(os.path.abspath(called))
            root = fixed_part(above) if is_pattern else top
            yield Found(path, root, is_sequence, os.path.abspath(called))


def _names_suffix(pattern: str) -> bool:
    """Whether a glob asks for files of a certain ending, so that unusual endings are wanted."""
    suffix = os.path.splitext(pattern)[1]
    return bool(suffix) and not glob.has_magic(suffix)


def _search(folder: str, passed: set[str], root: str | None = None) -> Iterator[Found]:
    """Videos below a folder; a folder of images without videos counts as one video.

    Args:
        folder: to be searched.
        passed: to which files of other endings are added.
        root: see `Found`; the folder itself when None, which then must hold something.
    """
    empty = True
    others: set[str] = set()
    for here, files in walk(folder):
        suffixes = {name: os.path.splitext(name)[1].lower() for name in files if name[0] != "."}
        videos = sorted(name for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES)
        images = any(map(is_image_name, suffixes))
        for name in videos:
            empty = False
            yield Found(os.path.join(here, name), root or folder)
        if not videos and images:
            empty = False
            above = os.path.dirname(os.path.abspath(folder)) if here == folder else folder
            yield Found(here, root or above, True)
        others.update(
            os.path.abspath(os.path.join(here, name))
            for name, suffix in suffixes.items()
            if not (suffix in VIDEO_SUFFIXES if videos else is_image_name(name))
        )
    passed |= others
    if empty and root is None:
        raise CollectionError(
            f"videos: no video and no image below the folder {folder!r}"
            + (f", but {_counted(others)}" if others else "")
            + "; endings looked for: "
            + " ".join(sorted(VIDEO_SUFFIXES))
        )


def _expand_list(list_path: str, passed: set[str]) -> Iterator[Found]:
    """The videos of a list, named below its folder where they lie there."""
    base = os.path.dirname(list_path)
    top = os.path.join(os.path.abspath(base), "")
    for number, entry in enumerate(read_list(list_path)):
        path = os.path.join(base, os.path.expanduser(entry))
        if glob.has_magic(entry) and not exists(path) and not os.path.isabs(entry):
            path = os.path.join(glob.escape(base), entry)  # its own brackets are no pattern
        try:
            for found in _expand(path, passed, list_path):
                inside = os.path.abspath(found.path).startswith(top)
                yield replace(found, root=base or ".") if inside else found
        except CollectionError as error:
            line = line_of(list_path, entry)
            place = f"the list {list_path!r}" + (f", line {line}" if line else "")
            hint = ""
            if number == 0 and isinstance(error, _NoEntryError):
                hint = (
                    "; is this line a header? Then name the column with the videos path, video or "
                    "file"
                )
            raise CollectionError(f"{error}, in {place}{hint}") from error


def _counted(files: set[str]) -> str:
    """A text such as "12 files: 7 .txt, 3 images next to videos, 2 .db"."""
    n_images = sum(map(is_image_name, files))
    images = f"image{'s' if n_images > 1 else ''} next to videos"
    kinds = Counter(
        images if is_image_name(file) else os.path.splitext(file)[1].lower() for file in files
    )
    shown = [f"{n} {kind or 'without ending'}" for kind, n in kinds.most_common(8)]
    more = len(kinds) - len(shown)
    text = ", ".join(shown) + (f" and {more} more endings" if more > 0 else "")
    return f"{len(files)} file{'s' if len(files) > 1 else ''}: {text}"
