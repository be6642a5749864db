"""The errors with which jobs ended are found in their logs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pvio.pipeline.jobs.log import errors_of, file_system_time


def write(path: Path, text: str, at: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def test_the_last_error_of_each_log_is_found(tmp_path: Path):
    write(tmp_path / "plan.log", "Error: first\nmore\nError: last\n  indented\n", 1000)
    write(tmp_path / "infer/1-of-2.log", "12:00:00 ERROR it says Error: no\nall is well\n", 1000)
    write(tmp_path / "infer/2-of-2.log", "Error: \udce9".encode("utf-8", "replace").decode(), 1000)
    write(tmp_path / "notes.txt", "Error: of another program\n", 1000)
    found = [(path.relative_to(tmp_path).as_posix(), text) for path, text in errors_of(tmp_path, 0)]
    assert found == [("infer/2-of-2.log", "?"), ("plan.log", "last\n  indented")]


def test_logs_of_an_earlier_run_are_left_out(tmp_path: Path):
    write(tmp_path / "old.log", "Error: old\n", 999)
    write(tmp_path / "new.log", "Error: new\n", 1000)
    assert [text for _, text in errors_of(tmp_path, 1000)] == ["new"]


def test_a_folder_without_logs_has_no_errors(tmp_path: Path):
    assert list(errors_of(tmp_path / "logs", 0)) == []


def test_a_run_begins_by_the_clock_of_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)  # this machine is an hour ahead
    began = file_system_time(tmp_path / "logs")
    assert list((tmp_path / "logs").iterdir()) == []
    (tmp_path / "logs/job.log").write_text("Error: it failed\n")
    assert [text for _, text in errors_of(tmp_path / "logs", began)] == ["it failed"]
