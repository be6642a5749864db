"""The last stage with `on_damaged: fail`: damaged inputs fail the run once everything is done."""

from __future__ import annotations

from pvio.errors import DamagedVideos
from pvio.summary import parse_summary
from pvio.text import printable


def check_summary(summary: str) -> None:
    """Check the content of `summary.tsv`.

    Raises:
        DamagedVideos: when a video is not `ok`, naming each with its reason.
    """
    bad = [
        printable(f"{row['path']}: {row['status']}, {row['reason']}")
        for row in parse_summary(summary)
        if row["status"] != "ok"
    ]
    if bad:
        raise DamagedVideos(
            f"{len(bad)} video(s) are damaged or unreadable, and on_damaged is 'fail' (all results "
            "are written nevertheless):\n  " + "\n  ".join(bad)
        )
