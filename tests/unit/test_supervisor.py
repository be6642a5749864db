"""Work in a child process that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pvio.cache.entries import Cache
from pvio.pipeline.jobs.supervisor import Outcome, run_supervised


@dataclass
class Dying:
    """Does tasks; its process ends itself at some of them, each time or only the first time."""

    folder: Path
    always: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    how: str = "kill"

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        progress(3)
        with (self.folder / "log").open("a") as file:
            file.write(f"{task} {isolated}\n")
        if task in self.always or (task in self.once and not isolated):
            (self.folder / "tmp").mkdir(exist_ok=True)
            if self.how == "exit":
                os._exit(7)
            os.kill(os.getpid(), getattr(signal, f"SIG{self.how.upper()}"))
        return Outcome(task, "done", task * 10)

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


def run(work: Any, n: int = 4) -> dict[int, Outcome]:
    found = list(run_supervised(work, range(n), lambda n: None, work.folder / "tmp"))
    assert len(found) == n
    return {each.task: each for each in found}


def test_tasks_are_done_in_order_in_one_process(tmp_path: Path):
    steps: list[int] = []
    found = list(run_supervised(Dying(tmp_path), [3, 1, 2], steps.append, tmp_path))
    assert [(each.task, each.kind, each.value) for each in found] == [
        (3, "done", 30),
        (1, "done", 10),
        (2, "done", 20),
    ]
    assert steps == [3, 3, 3]


def test_no_task_starts_no_process(tmp_path: Path):
    assert list(run_supervised(Dying(tmp_path), [], lambda n: None, tmp_path)) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [("kill", "memory runs out"), ("segv", "crashed (SIGSEGV)"), ("exit", "exit code 7")],
)
def test_a_task_that_kills_its_process_fails_and_the_others_continue(
    tmp_path: Path, how: str, message: str
):
    work = Dying(tmp_path, always=(1,), how=how)
    found = run(work)
    assert [found[task].kind for task in range(4)] == ["done", "failed", "done", "done"]
    assert message in found[1].value
    # With care at the second try, and nothing is done twice.
    assert work.log() == ["0 False", "1 False", "1 True", "2 False", "3 False"]


def test_a_task_that_crashes_once_is_done_at_the_second_try(tmp_path: Path):
    found = run(Dying(tmp_path, once=(0, 2)))
    assert {each.kind for each in found.values()} == {"done"}


@dataclass
class Writing:
    """Is killed while it writes an entry of the cache."""

    folder: Path

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        with Cache(self.folder).open_for_write("video", f"key{task}", {}) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path):
    found = run(Writing(tmp_path), 1)
    assert found[0].kind == "failed"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not Cache(tmp_path).has("video", "key0")


def test_a_video_at_which_the_process_crashes_repeatedly_is_skipped(tmp_path: Path):
    """Of tasks 0 to 7, four are of one video: it costs four processes, and the others continue."""
    work = Dying(tmp_path, always=(2, 3, 4, 5))
    outcomes = run_supervised(
        work, range(8), lambda n: None, tmp_path / "tmp", lambda task: task in (2, 3, 4, 5)
    )
    found = {each.task: each.kind for each in outcomes}
    assert found == {task: "failed" if task in (2, 3, 4, 5) else "done" for task in range(8)}
    assert [line for line in work.log() if line[0] in "2345"] == [
        *("2 False", "2 True", "3 False", "3 True"),
    ]


def test_progress_counts_no_frames_of_a_task_that_was_not_done(tmp_path: Path):
    steps: list[int] = []
    outcomes = run_supervised(
        Dying(tmp_path, always=(1,)), range(3), steps.append, tmp_path / "tmp"
    )
    assert len(list(outcomes)) == 3
    assert sum(steps) == 2 * 3


@dataclass
class Spent:
    """Fails at some tasks, and at all tasks after one of them in the same process."""

    folder: Path
    bad: tuple[int, ...]
    is_broken: bool = False

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        with (self.folder / "log").open("a") as file:
            file.write(f"{task}\n")
        self.is_broken = self.is_broken or task in self.bad
        if self.is_broken:
            return Outcome(task, "failed", "CUDA error: no more", ends_process=True)
        return Outcome(task, "done", os.getpid())


def test_a_process_that_can_do_no_other_task_is_replaced(tmp_path: Path):
    found = run(Spent(tmp_path, bad=(1, 3)), 5)
    assert [found[task].kind for task in range(5)] == ["done", "failed", "done", "failed", "done"]
    assert found[1].value == "CUDA error: no more"
    assert len({found[task].value for task in (0, 2, 4)}) == 3
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3", "4"]  # once each


def test_a_group_that_ends_process_after_process_is_not_tried_to_the_end(tmp_path: Path):
    work = Spent(tmp_path, bad=(0, 1, 2, 3))
    outcomes = run_supervised(
        work, range(6), lambda n: None, tmp_path / "tmp", lambda task: task < 4
    )
    found = {each.task: each.kind for each in outcomes}
    assert found == {task: "failed" if task < 4 else "done" for task in range(6)}
    assert (tmp_path / "log").read_text().split() == ["0", "1", "4", "5"]


@dataclass
class Threaded:
    """Leaves a thread that never ends."""

    folder: Path

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        threading.Thread(target=time.sleep, args=(1000,)).start()
        return Outcome(task, "done", 1)


def test_threads_that_keep_running_do_not_block(tmp_path: Path):
    began = time.monotonic()
    assert run(Threaded(tmp_path), 2)[1].kind == "done"
    assert time.monotonic() - began < 20


@dataclass
class Unforeseen:
    """Raises an error of its own at a task, or returns what cannot be sent."""

    folder: Path
    returns: bool = False

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        if task == 1 and self.returns:
            return Outcome(task, "done", lambda: None)
        if task == 1:
            raise AttributeError("no such attribute")
        return Outcome(task, "done", task)


@pytest.mark.parametrize("returns", [False, True])
def test_an_unforeseen_error_costs_one_task(tmp_path: Path, returns: bool):
    found = run(Unforeseen(tmp_path, returns), 3)
    assert [found[task].kind for task in range(3)] == ["done", "failed", "done"]
    assert found[1].value == "the process ended with exit code 1"


@dataclass
class Slow:
    """Takes a while for a task."""

    folder: Path

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        progress(1)
        time.sleep(1.5)
        return Outcome(task, "done", 1)


def test_a_model_that_shows_no_progress_is_logged_and_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("pvio.pipeline.jobs.supervisor._QUIET_SECONDS", 0.4)
    assert run(Slow(tmp_path), 1)[0].kind == "done"
    messages = [record.getMessage() for record in caplog.records]
    # After 0.4 s and another 0.8 s; the start of a new interpreter may add one more.
    assert 2 <= len(messages) <= 5
    assert all(message.startswith("no progress for") for message in messages)


SLEEPER = """
import os, sys, time
from pathlib import Path
from pvio.pipeline.jobs.supervisor import run_supervised

def work(task, isolated, progress):
    progress(os.getpid())
    time.sleep(600)

def note(pid):  # in the parent, which by then is waiting
    Path(sys.argv[1], "pid").write_text(str(pid))

list(run_supervised(work, [1], note, Path(sys.argv[1])))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(tmp_path: Path, how: signal.Signals):
    parent = subprocess.Popen([sys.executable, "-c", SLEEPER, str(tmp_path)])
    file = tmp_path / "pid"
    while not (file.exists() and file.read_text()):
        time.sleep(0.02)
    child = int(file.read_text())
    parent.send_signal(how)
    parent.wait(5)
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the child is still there")
