"""What Snakemake takes for done, though it is to be done again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pvio.collection import PRODUCTS_FILE
from pvio.manifest import Receipt
from pvio.store import write_json

AGAIN = "work/again.json"
ASSEMBLED = "work/assembled"


def note_vanished(receipts: Iterable[Receipt], path: str = AGAIN) -> None:
    """Note the shards with videos that vanished or changed during the run.

    They are reported, and the run ends well; the next one shall look at them again.
    """
    shards = [
        f"work/{receipt.stage}/{receipt.shard}.json"
        for receipt in receipts
        if any(done.failure for done in receipt.segments)
    ]
    if shards:
        write_json(path, shards)
    else:
        Path(path).unlink(missing_ok=True)


def forget_what_is_out_of_date(results: str = "results") -> None:
    """Remove receipts of such shards, and the mark of finished results that are no longer there.

    Called when the workflow is read, in its working folder.
    """
    try:
        found = json.loads(Path(AGAIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = []
    shards = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    for shard in shards:
        Path(shard).unlink(missing_ok=True)
    if shards or not Path(results, PRODUCTS_FILE).exists():
        Path(ASSEMBLED).unlink(missing_ok=True)
    Path(AGAIN).unlink(missing_ok=True)
