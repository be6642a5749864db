"""Names of results: from the paths of the videos, unique, and such that any disk can hold them.

A name is the path below the **root** of the entry of `videos` that led to the video, without its
ending. Where names collide they become longer: first by the folders above the root, for all videos
of this root, then by the ending, last by a piece of the path's digest. Names that videos have in
the results that are there are kept, whatever is added or taken away later.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvio.layout import NAMES_FILE, RESULTS_PLAN_FILE
from pvio.text import UNPRINTABLE

# What products add to a name; another product's folder must not be called so.
PRODUCT_SUFFIXES = (".parquet", ".mp4", ".mkv")
# Bytes of a part of a name: file systems take 255, with the suffix, and leave some for others'
# suffixes; of a whole name, of the 4096 that a path may have.
_PART_BYTES, _NAME_BYTES, _MOST_BYTES = 235, 1500, 255
_LAST_STEP = 4
_PLAIN = re.compile(r"[\w-][^/\0]{0,99}(?:/[\w-][^/\0]{0,99})*")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Found:
    """A video, and where it was found.

    Attributes:
        path: absolute path.
        root: folder below which its name begins: absolute, and above `path`.
        is_image_folder: whether `path` is a folder or a pattern of images.
        called: the path to name it by, where that is another one: a pattern without wildcards.
    """

    path: str
    root: str
    is_image_folder: bool = False
    called: str = ""


def result_names(videos: Sequence[Found], known: Mapping[str, str] | None = None) -> list[str]:
    """A name for each video.

    They differ also where upper and lower case, or the form of accents, do not count, no product's
    file is called as a folder of another one, and no part is longer than file systems allow. They
    do not depend on the order of the videos.

    Args:
        videos: of the collection; no path twice.
        known: names that some of them have already, by path, which they keep.
    """
    kept = _kept(videos, known or {})
    new = [_Candidate(video) for video in videos if video.path not in kept]
    _lengthen_by_folders(new, videos, kept)
    _lengthen_one_by_one(new, kept)
    names = kept | {each.video.path: each.name for each in new}
    return [names[video.path] for video in videos]


def read_names(results: str | os.PathLike[str] = "results") -> dict[str, str]:
    """Names of the videos in a results folder, by path; none where there are no results."""
    return {row["path"]: row["name"] for row in named_videos(results)}


def named_videos(results: str | os.PathLike[str]) -> list[dict[str, str]]:
    """`path`, `name` and `digest` of the videos in a results folder."""
    for file in (NAMES_FILE, RESULTS_PLAN_FILE):  # earlier versions wrote the second one alone
        try:
            videos = json.loads(Path(results, file).read_text(encoding="utf-8"))["videos"]
            return [{key: str(row[key]) for key in ("path", "name", "digest")} for row in videos]
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return []


def renamed_results(results: str | os.PathLike[str] = "results") -> dict[str, str]:
    """Results that the last run has given another name, since their files were moved."""
    try:
        renamed = json.loads(Path(results, NAMES_FILE).read_text(encoding="utf-8"))["renamed"]
        return {str(old): str(new) for old, new in renamed.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def names_without_video(results: str | os.PathLike[str], paths: Iterable[str]) -> list[str]:
    """Names in a results folder whose videos are no longer in the collection.

    Args:
        results: the folder.
        paths: of the videos of the collection.
    """
    present = set(paths)
    return [row["name"] for row in named_videos(results) if row["path"] not in present]


def folded(name: str) -> str:
    """A name as file systems compare them that know neither case nor forms of accents."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


class _Candidate:
    """A video on the way to its name."""

    def __init__(self, video: Found):
        self.video = video
        self.step = 0
        inner = (video.called or video.path).removeprefix(video.root).lstrip("/")
        bare = inner if video.is_image_folder else os.path.splitext(inner)[0]
        self._whole, self._bare = _safe(inner), _safe(bare)
        self._prefix = ""
        self.name = _short(self._bare, video.path)

    @property
    def forms(self) -> tuple[str, str]:
        """The path below the root, without and with its ending."""
        return self._bare, self._whole

    def set_prefix(self, n_folders: int) -> None:
        """Begin the name with so many folders above its root."""
        above = self.video.root.strip("/").split("/")
        prefix = "/".join(above[max(0, len(above) - n_folders) :]) if n_folders else ""
        self._prefix = f"{_safe(prefix)}/" if prefix else ""
        self._rename()

    def lengthen(self) -> None:
        """Take the next form: with the ending; with a digest; with no folder; with all of it."""
        self.step = min(self.step + 1, _LAST_STEP)
        self._rename()

    def _rename(self) -> None:
        name = self._prefix + (self._whole if self.step else self._bare)
        if self.step >= 2:
            name = f"{name}~{_digest(self.video.path, 32 if self.step == _LAST_STEP else 6)}"
        if self.step >= 3:
            name = name.replace("/", "~")
        self.name = _short(name, self.video.path)


def _kept(videos: Sequence[Found], known: Mapping[str, str]) -> dict[str, str]:
    """Names that videos have already, without those that cannot stay."""
    kept: dict[str, str] = {}
    taken: set[str] = set()
    for video in sorted(videos, key=lambda video: video.path):
        name = known.get(video.path, "")
        if _is_valid(name) and folded(name) not in taken:
            kept[video.path] = name
            taken.add(folded(name))
    clashes = {file for file, _ in _clashes(taken)}
    return {path: name for path, name in kept.items() if folded(name) not in clashes}


def _is_valid(name: str) -> bool:
    """Whether a file system can hold the products of a name; shorter than new ones need not be."""
    if name.isascii() and _PLAIN.fullmatch(name):  # most are
        return True
    if _NO_TEXT.search(name):
        return False
    parts = f"{name}{PRODUCT_SUFFIXES[0]}".split("/")
    return bool(name) and all(
        part not in ("", ".", "..") and len(part.encode()) <= _MOST_BYTES for part in parts
    )


def _lengthen_by_folders(
    new: list[_Candidate], videos: Sequence[Found], kept: Mapping[str, str]
) -> None:
    """Let the names of different roots differ by the folders above them."""
    by_root: dict[str, list[_Candidate]] = defaultdict(list)
    for each in new:
        by_root[each.video.root].append(each)
    levels = _known_levels([video for video in videos if video.root in by_root], kept)
    depth = {root: len(root.strip("/").split("/")) if root.strip("/") else 0 for root in by_root}
    for root in by_root:
        levels.setdefault(root, 0)
    changed = [root for root in by_root if levels[root]]
    taken = {folded(kept[v.path]): v.root for v in videos if v.path in kept}
    while True:
        for root in changed:
            for each in by_root[root]:
                each.set_prefix(levels[root])
        roots: dict[str, set[str]] = defaultdict(set)
        for each in new:
            roots[folded(each.name)].add(each.video.root)
        collide = {
            root
            for name, those in roots.items()
            for root in those
            if len(those) > 1 or taken.get(name, root) != root
        }
        changed = [root for root in collide if levels[root] < depth[root]]
        if not changed:
            return
        for root in changed:
            levels[root] += 1


def _known_levels(videos: Sequence[Found], kept: Mapping[str, str]) -> dict[str, int]:
    """The number of folders above its root that the known names of a root begin with."""
    levels: dict[str, int] = {}
    for video in videos:
        if video.path in kept:
            name, above = kept[video.path], f"/{_safe(video.root.strip('/'))}/"
            for inner in _Candidate(video).forms:
                prefix = name.removesuffix(inner)
                if prefix != name and above.endswith(f"/{prefix}"):
                    levels[video.root] = max(levels.get(video.root, 0), prefix.count("/"))
    return levels


def _lengthen_one_by_one(new: list[_Candidate], kept: Mapping[str, str]) -> None:
    """Let names that still collide, or that clash with a folder, differ by endings and digests."""
    taken = {folded(name) for name in kept.values()}
    while True:
        by_name: dict[str, list[_Candidate]] = defaultdict(list)
        for each in new:
            by_name[folded(each.name)].append(each)
        longer: dict[int, _Candidate] = {}
        for name, those in by_name.items():
            if len(those) > 1 or name in taken:
                # A short name gives way to a whole one: `clip.mp4.mkv` next to `clip.mp4`.
                lowest = min(each.step for each in those)
                longer |= {id(each): each for each in those if each.step == lowest}
        for file, folder in _clashes(taken | set(by_name)):
            if file in by_name:
                longer |= {id(each): each for each in by_name[file]}
            else:
                inside = f"{folder}/"
                longer |= {
                    id(each): each
                    for name, those in by_name.items()
                    if name.startswith(inside)
                    for each in those
                }
        movable = [each for each in longer.values() if each.step < _LAST_STEP]
        if not movable:
            return
        for each in movable:
            each.lengthen()


def _clashes(names: set[str]) -> Iterator[tuple[str, str]]:
    """Names, folded, with a product that is called as a folder of another name; and this folder."""
    folders: set[str] = set()
    pending = {name.rpartition("/")[0] for name in names}
    while pending := pending - folders - {""}:
        folders |= pending
        pending = {folder.rpartition("/")[0] for folder in pending}
    for folder, suffix in itertools.product(folders, PRODUCT_SUFFIXES):
        if folder.endswith(suffix) and folder.removesuffix(suffix) in names:
            yield folder.removesuffix(suffix), folder


def _safe(name: str) -> str:
    """A name without characters that are no text, or that control a terminal."""
    return UNPRINTABLE.sub(_replacement, name) if not name.isprintable() else name


def _replacement(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"~x{code - 0xDC00:02X}"
    return f"~x{code:02X}" if code < 0x80 else f"~u{code:04X}"


def _fits(name: str) -> bool:
    size = len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
    return size <= _PART_BYTES or (
        size <= _NAME_BYTES
        and all(len(p.encode("utf-8", "surrogatepass")) <= _PART_BYTES for p in name.split("/"))
    )


def _short(name: str, path: str) -> str:
    """A name whose parts, and which as a whole, are no longer than they may be."""
    if _fits(name):
        return name
    parts = [_short_part(part) for part in name.split("/")]
    if len("/".join(parts).encode()) > _NAME_BYTES:
        leaf = _cut(parts[-1], _PART_BYTES - 14)
        return f"{leaf}~{_digest(path, 12)}"
    return "/".join(parts)


def _short_part(part: str) -> str:
    if len(part.encode()) <= _PART_BYTES:
        return part
    return f"{_cut(part, _PART_BYTES - 14)}~{_digest(part, 12)}"


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def _digest(text: str, n_letters: int) -> str:
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=16).hexdigest()[:n_letters]
