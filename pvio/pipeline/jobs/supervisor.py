"""Work in a child process, so that a crash costs one segment and not the job."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from pvio.cache.atomic import remove_stale_temporaries
from pvio.pipeline.jobs.log import log_to_stderr

log = logging.getLogger(__name__)

# A segment that crashed the process is tried once more, isolated, in a new process.
_ATTEMPTS = 2
# When this many segments of a video have failed in this way, its others are not tried.
_MOST_LOST = 2
# A finished process may take this long to exit: a model may leave running threads.
_EXIT_SECONDS = 5.0
# Exit code of a process that ran out of memory.
OUT_OF_MEMORY = 75
_PR_SET_PDEATHSIG = 1
# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT_BYTES = 1 << 30
# If memory runs out, the system should kill this process and not the one that supervises it.
_OOM_SCORE = "500"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task.

    Attributes:
        task: its number.
        kind: "done"; "found": another job did it; "failed"; "unreadable": its video; "full": the
            disk; "lost": an entry that it needs; "stop": the job cannot begin, with any task.
        value: the result, or the reason of a failure.
        ends_process: whether the process can do no other task, and must be replaced.
    """

    task: int
    kind: Literal["done", "found", "failed", "unreadable", "full", "lost", "stop"]
    value: Any
    ends_process: bool = False


class Work(Protocol):
    """Runs in the child; is pickled on its way there where the system cannot fork."""

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        """Do a task.

        Args:
            task: its number.
            isolated: whether the process crashed at this task before.
            progress: to be called with the number of frames done since the last call.
        """


def run_supervised(
    work: Work,
    tasks: Sequence[int],
    progress: Callable[[int], None],
    temporaries: Path,
    group_of: Callable[[int], Hashable] = lambda task: task,
) -> Generator[Outcome]:
    """Do tasks one after the other in a child process, which is restarted when it crashes.

    A task that crashes the process twice counts as failed. When two tasks of a group have failed in
    this way, or each ended its process, all tasks of the group count as failed. So a video for
    which the model takes all memory costs few processes.

    Args:
        work: does a task.
        tasks: their numbers.
        progress: called here with the number of frames done since the last call.
        temporaries: folder of the child's temporary files, which are removed when it crashed.
        group_of: the group of a task: its video.

    Yields:
        The outcome of each task, as soon as it is known.
    """
    todo = deque(tasks)
    crashes: Counter[int] = Counter()
    lost: Counter[Hashable] = Counter()
    while todo:
        end = yield from _supervised_child(work, todo, crashes, progress, temporaries)
        if end is None:
            return
        if end.crashed:
            crashes[end.task] += 1
            todo.remove(end.task)
            if crashes[end.task] < _ATTEMPTS:
                log.warning("%s; it is restarted", end.reason)
                todo.appendleft(end.task)
                continue
            yield Outcome(end.task, "failed", end.reason)
        group = group_of(end.task)
        lost[group] += 1
        if lost[group] == _MOST_LOST:
            others = [task for task in todo if group_of(task) == group]
            todo = deque(task for task in todo if group_of(task) != group)
            yield from (Outcome(task, "failed", end.reason) for task in others)


@dataclass(frozen=True)
class _End:
    """How a child ended with tasks left: at which task, why, and whether it crashed."""

    task: int
    reason: Any
    crashed: bool


def _supervised_child(
    work: Work,
    todo: deque[int],
    crashes: Counter[int],
    progress: Callable[[int], None],
    temporaries: Path,
) -> Generator[Outcome, None, _End | None]:
    """Do tasks in one child process, up to its end; finished tasks are removed from `todo`.

    Returns:
        How the child ended; None when all tasks are done.
    """
    current: int | None = None
    n_done = 0  # frames of the current task
    last: Outcome | None = None  # of the process
    child = _Child(work, todo, crashes)
    try:
        for message in child.messages():
            if isinstance(message, Outcome):
                todo.remove(message.task)
                current, n_done = None, 0
                yield message
                if not todo:
                    return None
                if message.ends_process:
                    last = message
                    break
            elif message[0] == "begin":
                current = message[1]
            else:
                n_done += message[1]
                progress(message[1])
        code = child.join()
    finally:
        child.stop(_EXIT_SECONDS if not todo else 0)
        remove_stale_temporaries(temporaries, child.pid)
        if n_done:
            progress(-n_done)
    if last is not None:
        return _End(last.task, last.value, crashed=False)
    return _End(todo[0] if current is None else current, _describe_exit(code), crashed=True)


class _Child:
    def __init__(self, work: Work, tasks: Sequence[int], crashes: Counter[int]):
        # Threads, of PyTorch or a progress bar, do not survive a fork, but their locks stay held.
        # Without threads a fork is the fastest start.
        has_threads = "torch" in sys.modules or threading.active_count() > 1
        can_fork = sys.platform == "linux" and not has_threads
        context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        isolated = {task for task in tasks if crashes[task]}
        level = logging.getLogger().level
        self._process = context.Process(
            target=_serve, args=(sender, work, list(tasks), isolated, level, os.getpid())
        )
        self._process.start()
        sender.close()

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def messages(self) -> Iterator[Any]:
        """Messages of the child, until it exits."""
        with contextlib.suppress(EOFError, OSError):
            # The pipe may stay open in processes that the child has started.
            while self._receiver.poll(1.0) or self._process.is_alive() or self._receiver.poll():
                if self._receiver.poll():
                    yield self._receiver.recv()

    def join(self) -> int:
        """Wait for the exit; the exit code, negative for a signal."""
        self._process.join()
        return int(self._process.exitcode)

    def stop(self, timeout: float) -> None:
        """Wait for the child to exit, and kill it after a timeout in seconds."""
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._receiver.close()


def _serve(
    sender: Connection, work: Work, tasks: list[int], isolated: set[int], level: int, parent: int
) -> None:
    _exit_with(parent)
    _keep_memory()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent too, which kills this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not logging.getLogger().handlers:  # not a fork
        log_to_stderr(level)
    for task in tasks:
        sender.send(("begin", task))
        outcome = work(task, task in isolated, lambda n: sender.send(("frames", n)))
        sender.send(outcome)
        if outcome.ends_process:
            logging.shutdown()
            os._exit(0)  # libraries in a broken state may hang at a regular exit


def _exit_with(parent: int) -> None:
    """Let the system kill this process when its parent exits, for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has exited already
            os._exit(1)


def _keep_memory() -> None:
    """Keep freed memory in the process, instead of returning it to the system.

    A model frees after each batch as much memory as it allocates for the next one. The kernel would
    clear all of its pages for each batch, which took a sixth of a job's CPU time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _describe_exit(code: int) -> str:
    advice = "lower model.batch_size or model.size, or run fewer jobs at the same time"
    if code == -signal.SIGKILL:
        return f"the process was killed, as systems do when memory runs out: {advice}"
    if code == OUT_OF_MEMORY:
        return f"memory ran out: {advice}"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process crashed ({signal.Signals(-code).name})"
    return f"the process ended with exit code {code}"
