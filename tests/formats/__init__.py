"""Kinds of files from real collections, and how pvio reads each: the table of its tests.

Each module here lists `CASES` of one subject. `tests/unit/test_formats.py` makes every file and
compares what pvio reads with the case; `docs/formats.md` is written from the same cases, by
`python tests/write_formats.py`. What is expected comes from how a file was made, or from FFmpeg's
command and a single pass of PyAV, never from pvio.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Modules of cases, in the order of the sections of docs/formats.md.
SUBJECTS: tuple[str, ...] = (
    "times",
    "rows",
    "pixels",
    "images",
    "containers",
    "endings",
    "referring",
)
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Case:
    """A file, or a folder of images, and what is right for it.

    Attributes:
        name: of the file or folder; its ending is the container's. Unique among all cases.
        what: for the docs: codec, and what is special about it.
        make: writes the file; called with the `FFmpeg` of the tests and the path to write.
        outcome: for the docs: how pvio handles it, in one sentence.
        n_frames: number of rows; 0 for a file that is unreadable.
        times: seconds of each row.
        means: mean luma sample of each row, 0 to 255, None for a row without one, NaN for a row
            whose sample is not compared, as `outcome` then says.
        status: how many rows have which status; None for `{"ok": n_frames}`.
        size: (height, width) of the upright frames; None where it is not compared.
        rate: frames per second; None where it is not compared.
        damage: regular expression found in the damage that the index reports; "" for none.
        warning: regular expression found in the warning about an undamaged video.
        reason: regular expression found in the reason of a file that is unreadable.
        convert: for the docs: the command or action that makes a supported file of an unsupported
            one; "none: " and the reason where there is none.
        tolerance: of the means.
    """

    name: str
    what: str
    make: Callable[[Any, Path], None]
    outcome: str
    n_frames: int
    times: Sequence[float] | None = None
    means: Sequence[float | None] | None = None
    status: Mapping[str, int] | None = None
    size: tuple[int, int] | None = None
    rate: float | None = None
    damage: str = ""
    warning: str = ""
    reason: str = ""
    convert: str = ""
    tolerance: float = 0.06


def copied(name: str) -> Callable[[Any, Path], None]:
    """A maker that copies a small file of `tests/formats/data`."""

    def make(_ffmpeg: Any, path: Path) -> None:
        path.write_bytes((DATA / name).read_bytes())

    return make


def by_ffmpeg(*arguments: str) -> Callable[[Any, Path], None]:
    """A maker that runs FFmpeg's command with these arguments and the path."""

    def make(ffmpeg: Any, path: Path) -> None:
        ffmpeg.run("-v", "error", *arguments, path)

    return make


def cases() -> list[tuple[str, Case]]:
    """All cases, each with its subject."""
    return [
        (subject, case)
        for subject in SUBJECTS
        for case in importlib.import_module(f"formats.{subject}").CASES
    ]
