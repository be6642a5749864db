"""The last stage with `on_damaged: fail`: damaged inputs fail the run once everything is done."""

from __future__ import annotations

import csv
import io

from pvio.errors import DamagedVideos


def check_summary(summary: str) -> None:
    """Check the content of `summary.tsv`.

    Raises:
        DamagedVideos: when a video is not `ok`, naming each with its reason.
    """
    rows = csv.DictReader(io.StringIO(summary), delimiter="\t", quoting=csv.QUOTE_NONE)
    bad = [
        f"{row['path']}: {row['status']}, {row['reason']}" for row in rows if row["status"] != "ok"
    ]
    if bad:
        raise DamagedVideos(
            f"{len(bad)} video(s) are damaged or unreadable, and on_damaged is 'fail' (all results "
            "are written nevertheless):\n  " + "\n  ".join(bad)
        )
