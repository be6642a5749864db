"""The last stage: fail the run for damaged inputs and failed videos, after all results."""

from __future__ import annotations

from typing import Literal

from pvio.errors import DamagedVideos, FailedVideos
from pvio.pipeline.results.summary import parse_summary
from pvio.text import printable

Policy = Literal["mark", "fail"]


def check_summary(summary: str, on_damaged: Policy = "fail", on_failed: Policy = "fail") -> str:
    """Check the content of `summary.tsv`.

    Args:
        summary: the content.
        on_damaged: the policy for videos that are `damaged` or `unreadable`.
        on_failed: the policy for videos that are `failed`.

    Returns:
        One sentence: how many videos are ok, and how many are not but only marked.

    Raises:
        DamagedVideos, FailedVideos: with each such video and its reason.
    """
    rows = parse_summary(summary)
    failed = [row for row in rows if row["status"] == "failed"]
    damaged = [row for row in rows if row["status"] not in ("ok", "failed")]
    if on_damaged == "fail" and damaged:
        raise DamagedVideos(
            f"{len(damaged)} video(s) are damaged or unreadable, and on_damaged is 'fail' (all "
            "results are written nevertheless):\n  "
            + "\n  ".join(_described(failed if on_failed == "fail" else []) + _described(damaged))
        )
    if on_failed == "fail" and failed:
        raise FailedVideos(
            f"{len(failed)} video(s) failed; the results of the others are written. Fix the cause "
            "and run the same command again: only failed segments are tried again. on_failed: mark "
            "ends such a run without an error:\n  " + "\n  ".join(_described(failed))
        )
    sentence = f"{len(rows) - len(failed) - len(damaged)} of {len(rows)} videos are ok"
    marked = [
        f"{len(group)} {word} ({setting}: mark)"
        for group, word, setting in (
            (damaged, "damaged or unreadable", "on_damaged"),
            (failed, "failed", "on_failed"),
        )
        if group
    ]
    return ", ".join([sentence, *marked])


def _described(rows: list[dict[str, str]]) -> list[str]:
    return [printable(f"{row['path']}: {row['status']}, {row['reason']}") for row in rows]
