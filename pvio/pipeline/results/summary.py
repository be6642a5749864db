"""`results/summary.tsv`: a line per video with its outcome. Only written and read here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pvio.errors import PvioError
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.results.outcomes import VideoOutcome
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
        status: "waiting" or "running", while a run works; "ok"; "damaged": some rows are not
            `ok`, or its container is damaged; "failed": the
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


def first_row(video: ProbedVideo) -> SummaryRow:
    """The line of a video before anything of it is computed."""
    return SummaryRow(
        video.name, video.path, video.status, video.reason,
        height=video.height, width=video.width, rate=round(video.rate, 6),
        duration=round(video.duration, 6), codec=video.codec,
    )  # fmt: skip


def finished_row(
    video: ProbedVideo, outcome: VideoOutcome, warnings: list[str], failure: str = ""
) -> SummaryRow:
    """The line of a video that has its predictions.

    Args:
        video: of the plan.
        outcome: of its segments.
        warnings: about its new video.
        failure: why it has no new video, if it should.
    """
    bad = ", ".join(
        f"{outcome.status[status]} {status}"
        for status in ("suspect", "corrupt", "missing")
        if outcome.status[status]
    )
    marked = [
        f"frames of the new video are marked, since they were skipped in encoding: {reason}"
        for reason in outcome.skipped["encode"]
        if reason not in outcome.skipped["infer"]  # reported once
    ]
    reasons = [
        video.damage,
        video.warning,
        f"of {video.n_frames} rows {bad}" if bad else "",
        *outcome.skipped["infer"],
        *marked,
        *_not_finite(outcome.not_finite),
        *warnings,
        failure,
    ]
    is_damaged = bool(bad or outcome.skipped["encode"] or video.damage)
    return replace(
        first_row(video),
        status="failed" if failure else "damaged" if is_damaged else "ok",
        reason="; ".join(reason for reason in reasons if reason),
        frames=video.n_frames,
        ok=outcome.status["ok"],
        suspect=outcome.status["suspect"],
        corrupt=outcome.status["corrupt"],
        missing=outcome.status["missing"],
        segments=len(outcome.segments),
        infer_seconds=round(outcome.seconds["infer"], 4),
        encode_seconds=round(outcome.seconds["encode"], 4),
    )


def _not_finite(counts: Mapping[str, int]) -> list[str]:
    """Sentences on rows whose outputs are NaN or infinite; outputs with as many rows are in one."""
    names: dict[int, list[str]] = {}
    for name, n_rows in counts.items():
        names.setdefault(n_rows, []).append(name)
    return [
        f"{', '.join(group)} {'is' if len(group) == 1 else 'are'} NaN or infinite in {n_rows} rows"
        for n_rows, group in names.items()
    ]


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


def row_from_text(row: Mapping[str, str]) -> SummaryRow:
    """A row of `parse_summary` with the types of its columns.

    Raises:
        ValueError, LookupError: when it is of another version of pvio.
    """
    kinds = {"int": int, "float": float, "str": str}
    fields = SummaryRow.__annotations__
    return SummaryRow(**{name: kinds[fields[name]](row[name]) for name in SUMMARY_COLUMNS})


def parse_summary(text: str) -> list[dict[str, str]]:
    """The rows of the content of a `summary.tsv`, see `read_summary`.

    Lines end with a line feed, and cells with a tab; such characters in a name are escaped.

    Raises:
        ValueError: when the number of cells in a line differs from the header.
    """
    header, *rows = [line.split("\t") for line in text.split("\n") if line]
    return [dict(zip(header, map(unescaped, row), strict=True)) for row in rows]
