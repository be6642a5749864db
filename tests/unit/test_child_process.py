"""Child processes: calls in them, and what is left of them after errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pvio.concurrency.child_process import ChildProcess, Worker, WorkerPool

# Seconds; a child that is a new interpreter takes some to start on a busy machine.
TIMEOUT = 60.0


def pid() -> int:
    return os.getpid()


def answer(seconds: float, value: str) -> str:
    time.sleep(seconds)
    return value


def function_that_cannot_be_sent() -> Callable[[], None]:
    return lambda: None


def fail(*_: object) -> None:
    raise ValueError("no such thing")


def has_ended(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def test_a_call_after_an_interrupted_one_gets_its_own_reply():
    with Worker() as worker:
        assert worker.call(answer, 0, "first", timeout=TIMEOUT) == "first"
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                worker.call(answer, 1, "old", timeout=TIMEOUT)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert worker.call(answer, 0, "new", timeout=TIMEOUT) == "new"


def test_a_result_that_cannot_be_sent_costs_one_call():
    with Worker() as worker:
        with pytest.raises(Exception, match="pickle"):
            worker.call(function_that_cannot_be_sent, timeout=TIMEOUT)
        assert worker.call(answer, 0, "next", timeout=TIMEOUT) == "next"


def test_an_error_of_the_function_keeps_the_child():
    with Worker() as worker:
        first = worker.call(pid, timeout=TIMEOUT)
        with pytest.raises(ValueError, match="no such thing"):
            worker.call(fail, timeout=TIMEOUT)
        assert worker.call(pid, timeout=TIMEOUT) == first


def test_a_pool_that_cannot_start_leaves_no_child(monkeypatch: pytest.MonkeyPatch):
    started: list[ChildProcess] = []

    class Failing(ChildProcess):
        def __init__(self, *arguments: Any):
            if started:
                raise OSError("no more processes")
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr("pvio.concurrency.child_process.ChildProcess", Failing)
    with pytest.raises(OSError, match="no more processes"), WorkerPool(2):
        pass
    assert has_ended(started[0].pid)


# Each is run where children are forks, and with PyTorch, where they are new interpreters.
ENDINGS = {
    "an error amid a pool": """
pool = WorkerPool(2)
pool.__enter__()
raise SystemExit(3)
""",
    "a worker that is not closed": """
worker = Worker()
worker.call(os.getpid, timeout=60)
sys.exit(3)
""",
    "the same while it works": """
def interrupt(*_):
    raise SystemExit(3)

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 2)
worker = Worker()
worker.call(time.sleep, 1000, timeout=1000)
""",
}


@pytest.mark.parametrize("child", ["fork", "interpreter"])
@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_although_it_has_children(name: str, child: str, tmp_path: Path):
    modules = "os, signal, sys, time" + (", torch" if child == "interpreter" else "")
    script = tmp_path / "script.py"
    script.write_text(
        f"import {modules}\nfrom pvio.concurrency.child_process import Worker, WorkerPool\n"
        + ENDINGS[name]
    )
    ended = subprocess.run([sys.executable, script], timeout=60, check=False)
    assert ended.returncode == 3


def test_a_child_sees_that_its_parent_closes_the_connection(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pvio.concurrency.child_process import ChildProcess\n"
        "def wait(connection):\n"
        "    connection.send('ready')\n"
        "    connection.recv()\n"
        "child = ChildProcess(wait)\n"
        "assert child.receive(60) == 'ready'\n"
        "child.connection.close()\n"
        "child._process.join(20)\n"
        "print(child._process.exitcode)\n"
        "child._process.kill()\n"
    )
    ended = subprocess.run(
        [sys.executable, script], timeout=60, check=True, capture_output=True, text=True
    )
    assert ended.stdout == "0\n"


NESTED = """
import multiprocessing, os
from pvio.concurrency.child_process import Worker

def own_child():
    with Worker() as worker:
        return worker.call(os.getpid, timeout=60)

def own_fork():
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join()
    return process.exitcode

if __name__ == "__main__":
    with Worker() as worker:
        assert worker.call(own_child, timeout=60) != os.getpid()
        assert worker.call(own_fork, timeout=60) == 0
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(own_child) != os.getpid()
"""


def test_a_child_and_a_process_of_a_pool_may_have_children(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(NESTED)
    subprocess.run([sys.executable, script], timeout=100, check=True)
