"""`results/summary.tsv`: a line per video with its outcome. Only written and read here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvio.errors import PvioError
from pvio.text import escaped, unescaped

SUMMARY_COLUMNS = (
    "name", "path", "status", "reason", "frames", "ok", "suspect", "corrupt", "missing",
    "height", "width", "rate", "duration", "codec", "segments", "infer_seconds", "encode_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class SummaryRow:
    """The outcome of one input video: a line of `results/summary.tsv`.

    Attributes:
        name: of its results.
        path: of the video.
        status: "ok"; "damaged": some rows are not `ok`, or its container is damaged; "failed": the
            model, the encoder or pvio failed at it: it has no results, or, with rows, no video;
            "unreadable": the file cannot be read: it has no results.
        reason: its problems.
        frames: number of rows of its predictions.
        ok, suspect, corrupt, missing: rows by status.
        height, width, rate, duration, codec: its metadata.
        segments: number of segments.
        infer_seconds, encode_seconds: measured wall time, summed over its segments.
    """

    name: str
    path: str
    status: str
    reason: str = ""
    frames: int = 0
    ok: int = 0
    suspect: int = 0
    corrupt: int = 0
    missing: int = 0
    height: int = 0
    width: int = 0
    rate: float = 0.0
    duration: float = 0.0
    codec: str = ""
    segments: int = 0
    infer_seconds: float = 0.0
    encode_seconds: float = 0.0


def summary_table(rows: Iterable[SummaryRow]) -> str:
    """The content of `summary.tsv`: tab-separated text with a header, see `parse_summary`."""
    lines = ["\t".join(SUMMARY_COLUMNS)]
    for row in rows:
        values = (getattr(row, column) for column in SUMMARY_COLUMNS)
        lines.append(
            "\t".join(escaped(each) if isinstance(each, str) else str(each) for each in values)
        )
    return "\n".join(lines) + "\n"


def read_summary(path: str | os.PathLike[str] = "results/summary.tsv") -> list[dict[str, str]]:
    """The rows of a `summary.tsv` by column, names and paths as they are.

    Raises:
        PvioError: when it cannot be read.
    """
    try:
        return parse_summary(Path(path).read_bytes().decode())
    except (OSError, ValueError) as error:
        raise PvioError(f"{path} cannot be read: {error}") from error


def parse_summary(text: str) -> list[dict[str, str]]:
    """The rows of the content of a `summary.tsv`, see `read_summary`.

    Lines end with a line feed, and cells with a tab; such characters in a name are escaped.

    Raises:
        ValueError: when the number of cells in a line differs from the header.
    """
    header, *rows = [line.split("\t") for line in text.split("\n") if line]
    return [dict(zip(header, map(unescaped, row), strict=True)) for row in rows]
