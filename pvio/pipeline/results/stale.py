"""Jobs that Snakemake considers finished, but that the next run must run again."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from pvio.cache.atomic import write_json
from pvio.layout import ASSEMBLED_FILE, RESULTS_PLAN_FILE, STALE_FOLDER, Stage
from pvio.pipeline.planning.manifest import Receipt
from pvio.pipeline.results.product_table import read_products


def note_stale(
    receipts: Sequence[Receipt], *, are_assembled: bool = True, folder: str = STALE_FOLDER
) -> None:
    """Note the shards that failed in this run, so that the next run repeats them.

    These are shards with segments that failed, or with videos that were removed or changed during
    the run. The note of a shard is an input of its job. It is newer than the job's output, so
    Snakemake runs the job again, and shows it in a dry run. A job that was run again is newer than
    its note.

    Args:
        receipts: of the run, those of the last stage at the end.
        are_assembled: whether each video has its results, or a receipt has the reason. Otherwise
            the last job runs again, finds its segments finished, and `assemble` follows.
        folder: of the notes.
    """
    stale = [
        receipt for receipt in receipts if any(done.failure_reason for done in receipt.segments)
    ]
    if not stale and not are_assembled:
        stale = list(receipts[-1:])
    for receipt in stale:
        # Snakemake also compares contents; the time makes them differ.
        noted = datetime.datetime.now(datetime.UTC).isoformat()
        failed = sum(bool(done.failure_reason) for done in receipt.segments)
        path = Path(folder, receipt.stage, f"{receipt.shard}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"noted": noted, "failed_segments": failed})


def stale_note(stage: Stage, shard: str, folder: str = STALE_FOLDER) -> list[str]:
    """The note that makes a shard's job run again, as an input of its rule.

    Args:
        stage: infer or encode.
        shard: "k-of-n".
        folder: of the notes.

    Returns:
        Its path, or nothing for a shard that never failed.
    """
    path = Path(folder, stage, f"{shard}.json")
    return [path.as_posix()] if path.exists() else []


def lost_results_note(
    results: str = "results",
    mark: str = ASSEMBLED_FILE,
    folder: str = STALE_FOLDER,
    *,
    looks: bool = True,
) -> list[str]:
    """The note that finished results were lost, as an input of the rule that makes them.

    They are lost if a file of theirs is missing, for example since a user removed it.

    Every loss has a number. The note of a new loss does not exist yet: a rule makes it, and
    Snakemake assembles the results again. The note of the last loss stays an input, so that nothing
    changes afterwards.

    Args:
        results: the folder of the results.
        mark: exists since they were complete.
        folder: of the notes.
        looks: whether to look for a new loss; otherwise the last known one counts.

    Returns:
        Its path, or nothing where results were never lost.
    """
    names = [path.stem for path in Path(folder, "results").glob("*.txt")]
    n = max((int(name) for name in names if name.isdecimal()), default=0)
    if looks and Path(mark).exists() and _is_incomplete(Path(results)):
        n += 1
    return [f"{folder}/results/{n}.txt"] if n else []


def _is_incomplete(results: Path) -> bool:
    """Whether a file of complete results is missing."""
    if not (results / RESULTS_PLAN_FILE).exists():
        return True
    root = os.fspath(results)
    # Listing folders is faster than to ask for each file.
    there = {
        os.path.join(folder, name)[len(root) + 1 :]
        for folder, _, names in os.walk(root)
        for name in names
    }
    products = read_products(results)
    return any("failure" not in each and name not in there for name, each in products.items())


def correct_future_times(now: float, *folders: str) -> None:
    """Give files that are dated in the future the present time.

    A clock that was wrong leaves such files. Snakemake refuses outputs that are older than their
    inputs, and settings and notes are not written anew by a run.

    Args:
        now: seconds since 1970, by the clock of the file system.
        folders: with the files.
    """
    for folder in folders:
        for path in Path(folder).rglob("*"):
            if path.is_file() and path.stat().st_mtime > now:
                os.utime(path, (now, now))
