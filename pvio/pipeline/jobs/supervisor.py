"""Work in a child process, so that a crash costs one segment and not the job."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from pvio.cache.atomic import remove_stale_temporaries
from pvio.concurrency.child_process import OUT_OF_MEMORY, ChildCrashed, ChildProcess, describe_exit
from pvio.concurrency.prefetch import StallTimeout
from pvio.pipeline.jobs.log import log_to_stderr

logger = logging.getLogger(__name__)

# A segment that crashed the process is tried once more, isolated, in a new process.
_ATTEMPTS = 2
# When this many segments of a video have failed in this way, its others are not tried.
_MOST_LOST = 2
# A finished process may take this long to exit: a model may leave running threads.
_EXIT_SECONDS = 5.0
# A task that shows no progress for so long is logged, then after twice this time, and so on.
_QUIET_SECONDS = 600.0
# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT_BYTES = 1 << 30


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
                logger.warning("%s; it is restarted", end.reason)
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
    """The end of a child with tasks left: at which task, why, and whether it crashed."""

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
        The end of the child; None when all tasks are done.
    """
    current: int | None = None
    n_done = 0  # frames of the current task
    last: Outcome | None = None  # of the process
    isolated = {task for task in todo if crashes[task]}
    level = logging.getLogger().level
    # The model may take all memory, and map more for a CUDA device.
    child = ChildProcess(_serve, work, list(todo), isolated, level, memory=False)
    exit_code: int | None = 0
    try:
        for message in _messages(child):
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
    except ChildCrashed as error:
        exit_code = error.exit_code
    finally:
        child.stop(_EXIT_SECONDS if not todo else 0)
        remove_stale_temporaries(temporaries, child.pid)
        if n_done:
            progress(-n_done)
    if last is not None:
        return _End(last.task, last.value, crashed=False)
    return _End(todo[0] if current is None else current, _describe_exit(exit_code), crashed=True)


def _messages(child: ChildProcess) -> Iterator[Any]:
    """Messages of the child, waited for without a limit: a model may take any time.

    Raises:
        ChildCrashed: when the child has ended.
    """
    quiet = _QUIET_SECONDS
    while True:
        try:
            yield child.receive(quiet)
            quiet = _QUIET_SECONDS
        except StallTimeout:
            logger.warning(
                "no progress for %.0f s: the model is slow, or it hangs, or its device does", quiet
            )
            quiet *= 2


def _serve(
    connection: Connection, work: Work, tasks: list[int], isolated: set[int], level: int
) -> None:
    _keep_memory()
    if not logging.getLogger().handlers:  # not a fork
        log_to_stderr(level)
    for task in tasks:
        connection.send(("begin", task))
        try:
            outcome = work(task, task in isolated, lambda n: connection.send(("frames", n)))
            connection.send(outcome)
        except MemoryError:
            raise
        except Exception:  # as a crash: the parent tries the task again
            logger.exception("the task ended with an unexpected error")
            os._exit(1)
        if outcome.ends_process:
            logging.shutdown()
            os._exit(0)  # libraries in a broken state may hang at a regular exit


def _keep_memory() -> None:
    """Keep freed memory in the process, instead of returning it to the system.

    A model frees after each batch as much memory as it allocates for the next one. The kernel would
    clear all of its pages for each batch, which took a sixth of a job's CPU time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _describe_exit(exit_code: int | None) -> str:
    """Describe how the process ended, with advice where memory ran out."""
    text = describe_exit(exit_code, "the process")
    if exit_code in (OUT_OF_MEMORY, -signal.SIGKILL):
        text += ": lower model.batch_size or model.size, or run fewer jobs at the same time"
    return text
