"""Notes of what the next run has to do again, and the mark of finished results."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pvio.pipeline.planning.manifest import Receipt, SegmentReceipt
from pvio.pipeline.results.stale import (
    correct_future_times,
    lost_results_note,
    note_stale,
    stale_note,
)

GOOD = SegmentReceipt(0, {}, True)
BAD = SegmentReceipt(1, {}, True, failure_reason="no animal")


def notes(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))


def test_shards_with_a_failure_have_a_note(tmp_path: Path) -> None:
    folder = str(tmp_path)
    note_stale([Receipt("infer", "1-of-2", 1.0, [GOOD])], folder=folder)
    assert notes(tmp_path) == []
    note_stale([Receipt("infer", "2-of-2", 1.0, [GOOD, BAD])], folder=folder)
    assert notes(tmp_path) == ["infer/2-of-2.json"]
    assert stale_note("infer", "2-of-2", folder) == [f"{folder}/infer/2-of-2.json"]
    assert stale_note("infer", "1-of-2", folder) == stale_note("encode", "2-of-2", folder) == []


def test_a_second_failure_is_another_note(tmp_path: Path) -> None:
    path = tmp_path / "infer/1-of-1.json"
    contents = set()
    for _ in range(3):
        note_stale([Receipt("infer", "1-of-1", 1.0, [BAD])], folder=str(tmp_path))
        contents.add(path.read_bytes())
    assert len(contents) == 3


def test_results_that_could_not_be_concatenated_run_the_last_job_again(tmp_path: Path) -> None:
    receipts = [Receipt("infer", "1-of-1", 1.0, [GOOD]), Receipt("encode", "1-of-1", 1.0, [GOOD])]
    note_stale(receipts, are_assembled=False, folder=str(tmp_path))
    assert notes(tmp_path) == ["encode/1-of-1.json"]


def test_every_loss_of_results_has_a_note_of_its_own(tmp_path: Path) -> None:
    results, mark, folder = tmp_path / "results", tmp_path / "assembled", tmp_path / "stale"

    def note() -> list[str]:
        return [Path(path).name for path in lost_results_note(str(results), str(mark), str(folder))]

    assert note() == []  # before the first run
    mark.touch()
    results.mkdir()
    (results / "plan.json").touch()
    assert note() == []
    (folder / "results").mkdir(parents=True)
    for number in range(1, 12):
        (results / "plan.json").unlink()
        assert note() == [f"{number}.txt"]
        (folder / f"results/{number}.txt").touch()
        (results / "plan.json").touch()
        assert note() == [f"{number}.txt"]


@pytest.mark.parametrize("missing", ["predictions/mouse/a.parquet", "videos/b.mp4", "summary.tsv"])
def test_a_file_that_was_removed_is_a_loss(tmp_path: Path, missing: str) -> None:
    results, mark, folder = tmp_path / "results", tmp_path / "assembled", tmp_path / "stale"
    names = ["predictions/mouse/a.parquet", "videos/b.mp4"]
    for name in (*names, "plan.json", "summary.tsv"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()
    failed = {"predictions/c.parquet": {"failure": "no animal"}}
    table = {name: {"key": "k"} for name in [*names, "plan.json", "summary.tsv"]} | failed
    (results / ".products.json").write_text(json.dumps(table))
    mark.touch()

    assert lost_results_note(str(results), str(mark), str(folder)) == []
    (results / missing).unlink()
    assert lost_results_note(str(results), str(mark), str(folder)) == [f"{folder}/results/1.txt"]
    # A job of a cluster takes the note that the main process has made.
    assert lost_results_note(str(results), str(mark), str(folder), looks=False) == []
    (folder / "results").mkdir(parents=True)
    (folder / "results/1.txt").touch()
    note = lost_results_note(str(results), str(mark), str(folder), looks=False)
    assert note == [f"{folder}/results/1.txt"]


def test_files_dated_in_the_future_get_the_present_time(tmp_path: Path) -> None:
    past, future = tmp_path / "past.json", tmp_path / "infer/future.json"
    future.parent.mkdir()
    for path, when in ((past, 1000.0), (future, 3000.0)):
        path.touch()
        os.utime(path, (when, when))

    correct_future_times(2000.0, str(tmp_path), str(tmp_path / "absent"))

    assert past.stat().st_mtime == 1000
    assert future.stat().st_mtime == 2000
