"""Writes docs/formats.md from the tables of files in `tests/clips.py` and `tests/formats`.

Run it after a change of a table: `python tests/write_formats.py`.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from clips import MORE_KINDS, RECIPES
from formats import SUBJECTS, Case, cases

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"

HEAD = """\
# Formats

This page lists the files of the tests, and how pvio handles each. `python tests/write_formats.py`
generates it from the tables in `tests/clips.py` and `tests/formats`.

The tests compare the number of rows, the times, the statuses and the samples. For all but the
common files the samples are the mean luma of each frame. The expected values come from FFmpeg's
command, from a single pass of PyAV, or from the recipe of the file. The table mentions rows that
are not compared.

pvio tries any file whose video stream FFmpeg can decode. Kinds that are not listed here were not
tested.

Statuses are explained in [outputs.md](outputs.md#predictions).
"""

COMMON = """\
## Common files

Every frame has its row, its time and the status `ok`.
"""

TITLES = {
    "times": "Rates, time stamps, order of frames",
    "rows": "Fields, hidden frames, changes of size",
    "pixels": "Pixel formats, errors in side information",
    "images": "Images",
    "containers": "Containers and codecs",
    "endings": "Endings",
    "referring": "Files that refer to others",
}

UNSUPPORTED = """\
## Not supported

Such a file is `unreadable`: it has no results, and the summary gives the reason. The last column
shows how to convert it to a supported video.
"""

# FFmpeg's names of encoders whose codec has another name.
CODECS = {
    "libx264": "h264",
    "libx264rgb": "h264 (RGB)",
    "libx265": "hevc",
    "libvpx": "vp8",
    "libvpx-vp9": "vp9",
    "libsvtav1": "av1",
}


def page() -> str:
    """The text of docs/formats.md."""
    sections = [HEAD, COMMON + "\n" + _common()]
    for subject in SUBJECTS:
        found: list[Case] = importlib.import_module(f"formats.{subject}").CASES
        readable = [case for case in found if case.n_frames]
        if readable:
            rows = ((_file(case), case.what, _rows(case), case.outcome) for case in readable)
            table = _table(("file", "content", "rows", "how pvio handles it"), rows)
            sections.append(f"## {TITLES[subject]}\n\n{table}")
    refused = [case for _, case in cases() if not case.n_frames]
    rows = ((_file(case), case.what, case.outcome, _code(case.convert)) for case in refused)
    table = _table(("file", "content", "how pvio handles it", "solution"), rows)
    return "\n".join([*sections, UNSUPPORTED + "\n" + table])


def _common() -> str:
    codecs: dict[str, set[str]] = defaultdict(set)
    for name, recipe in (RECIPES | MORE_KINDS).items():
        if "-c:v" in recipe:
            codec = recipe[recipe.index("-c:v") + 1]
            codecs[Path(name).suffix].add(CODECS.get(codec, codec))
    rows = ((f"`{suffix}`", ", ".join(sorted(names))) for suffix, names in sorted(codecs.items()))
    return _table(("ending", "codecs"), rows)


def _file(case: Case) -> str:
    return f"`{case.name}`"


def _rows(case: Case) -> str:
    status = case.status or {"ok": case.n_frames}
    return ", ".join(f"{n} {name}" for name, n in status.items())


def _code(convert: str) -> str:
    """Commands as code, other advice as it is."""
    return f"`{convert}`" if convert.startswith("ffmpeg ") else convert


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
