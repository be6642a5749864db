"""What Snakemake takes for done, though it is to be done again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pvio.cache.atomic import write_json
from pvio.layout import ASSEMBLED_FILE, PRODUCTS_FILE, STALE_FILE, receipt_file
from pvio.pipeline.planning.manifest import Receipt


def note_failures(
    receipts: Iterable[Receipt], *, are_assembled: bool = True, path: str = STALE_FILE
) -> None:
    """Note what the next run has to do again, since it failed in this one.

    That is shards with segments that failed, or whose videos vanished or changed during the run.

    Args:
        receipts: of the run.
        are_assembled: whether a product of every video is there, or the reason in its receipts.
        path: of the note.
    """
    again = [
        receipt_file(receipt.stage, receipt.shard)
        for receipt in receipts
        if any(done.failure_reason for done in receipt.segments)
    ]
    if not are_assembled:
        again.append(ASSEMBLED_FILE)
    if again:
        write_json(path, again)
    else:
        Path(path).unlink(missing_ok=True)


def forget_what_is_out_of_date(results: str = "results") -> None:
    """Remove the files of that note, and the mark of finished results that are no longer there.

    Called when the workflow is read, in its working folder.
    """
    try:
        found = json.loads(Path(STALE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = []
    again = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    for file in again:
        Path(file).unlink(missing_ok=True)
    if again or not Path(results, PRODUCTS_FILE).exists():
        Path(ASSEMBLED_FILE).unlink(missing_ok=True)
    Path(STALE_FILE).unlink(missing_ok=True)
