"""Child processes, which may crash, hang or run out of memory without harm to their parent."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pvio.concurrency.memory import free_memory, limit_memory
from pvio.concurrency.prefetch import StallTimeout
from pvio.concurrency.timeout import on_progress

# The exit code of a process in which memory ran out.
OUT_OF_MEMORY = 75
_PR_SET_PDEATHSIG = 1
# Where memory runs out, the system should end children first, and their children before them.
_OOM_SCORE, _OOM_STEP, _MAX_OOM_SCORE = 500, 100, 1000
# How often a wait looks whether the child is alive; how often a call shows that it is at work.
_POLL_SECONDS, _BEAT_SECONDS = 1.0, 1.0
# A process that was killed ends at once, unless the kernel waits for a disk that does not answer.
_KILL_SECONDS = 5.0
# What a new interpreter runs: it finds the same modules as this one.
_START = (
    "import sys; fd = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; del sys.argv[1:]; "
    "from pvio.concurrency.child_process import _run_new; _run_new(fd)"
)


class ChildCrashed(Exception):
    """A child process ended before it was done.

    Attributes:
        exit_code: negative for a signal; None when it is not known.
    """

    def __init__(self, exit_code: int | None):
        super().__init__(describe_exit(exit_code))
        self.exit_code = exit_code

    @property
    def is_out_of_memory(self) -> bool:
        """Whether it needed more memory than it may take."""
        return self.exit_code == OUT_OF_MEMORY


class ChildProcess:
    """Runs `target(connection, *arguments)` in a child process.

    The child ends with the thread that started it, so it is to be used in this thread. It may take
    the memory that is free when it starts; when it needs more it ends, and where the system itself
    runs out of memory it ends before its parent.

    Args:
        target: a function at the top level of a module.
        arguments: pickled on their way, except where the child is a fork.
        memory: whether to limit the memory.

    Attributes:
        connection: to the child.
        pid: of the child.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any, memory: bool = True):
        limit = free_memory() if memory else None
        work = (target, arguments, os.getpid(), limit)
        self.connection, other_end = multiprocessing.Pipe()
        self._process: Any
        if _can_fork():
            context = multiprocessing.get_context("fork")
            # An interpreter ends its daemons before it exits; it would wait for other children.
            ends = (self.connection, other_end)
            self._process = context.Process(target=_run_fork, args=(*ends, *work), daemon=True)
            self._process.start()
            other_end.close()
        else:
            descriptor = other_end.fileno()
            self._process = _NewProcess(
                [sys.executable, "-c", _START, str(descriptor), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
            )
            other_end.close()
            try:
                self.send(work)
            except BaseException:
                self.stop()
                raise
        self.pid: int = self._process.pid

    def send(self, message: Any) -> None:
        """Send a message; nothing happens when the child has ended, which `receive` finds."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self, timeout: float = float("inf")) -> Any:
        """The child's next message.

        Args:
            timeout: seconds to wait.

        Raises:
            StallTimeout: when none came.
            ChildCrashed: when the child has ended.
            Exception: what `target` raised.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            was_alive = self._process.is_alive()
            try:
                if self.connection.poll(max(0.0, min(left, _POLL_SECONDS))):
                    message = self.connection.recv()
                    if isinstance(message, _Raised):
                        raise message.error
                    return message
            except (EOFError, ConnectionResetError):
                raise ChildCrashed(self.stop(_KILL_SECONDS)) from None
            if not was_alive:  # other processes may hold the pipe open
                raise ChildCrashed(self.stop())
            if left <= 0:
                raise StallTimeout(f"nothing came within {timeout:g} s")

    def stop(self, timeout: float = 0.0) -> int | None:
        """End the child, by force when it has not ended within a timeout.

        Returns:
            The exit code; None for a child that does not even end by force.
        """
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_KILL_SECONDS)
        self.connection.close()
        exit_code: int | None = self._process.exitcode
        return exit_code


class Worker:
    """Calls functions in a child process, one call after the other.

    The child is started at the first call, and again after one at which it crashed or hung. All
    calls come from one thread at a time, and the thread that starts it stays.

    Args:
        prepare: called in each child first; None for nothing.
    """

    def __init__(self, prepare: Callable[[], object] | None = None):
        self._prepare = prepare
        self._child: ChildProcess | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
        """Call a function in the child; returns its result.

        Args:
            function: at the top level of a module.
            arguments: of the function.
            timeout: seconds to wait for the result, or after the last `report_progress`.

        Raises:
            StallTimeout: when it takes longer.
            ChildCrashed: when the child crashes, or runs out of memory.
            Exception: what the function raised.
        """
        child = self.start()
        try:
            child.send((function, arguments))
            while (reply := child.receive(timeout))[0] == "progress":
                pass
        except BaseException:
            self.close()  # its reply may still come, and the next call must not receive it
            raise
        kind, value = reply
        if kind == "raised":
            raise value
        return value

    def start(self) -> ChildProcess:
        """Start the child, unless it runs; the first call does so otherwise."""
        if self._child is None:
            self._child = ChildProcess(_serve_calls, self._prepare)
        return self._child

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WorkerPool:
    """Several workers; threads share them, one call per worker at a time.

    Used with `with`. The children start at once: before there are threads they may be forks.

    Args:
        n: number of workers.
        prepare: called in each child first; None for nothing.
    """

    def __init__(self, n: int, prepare: Callable[[], object] | None = None):
        self._workers = [Worker(prepare) for _ in range(n)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._started = contextlib.ExitStack()

    def call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
        """See `Worker.call`; waits for a free worker."""
        worker = self._free.get()
        try:
            return worker.call(function, *arguments, timeout=timeout)
        finally:
            self._free.put(worker)

    def __enter__(self) -> WorkerPool:
        with contextlib.ExitStack() as stack:
            for worker in self._workers:
                stack.enter_context(worker).start()
                self._free.put(worker)
            self._started = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()


def describe_exit(exit_code: int | None, subject: str = "it") -> str:
    """Describe how a process ended.

    Args:
        exit_code: negative for a signal; None when it is not known.
        subject: of the sentence.
    """
    if exit_code == OUT_OF_MEMORY:
        return f"{subject} ran out of memory"
    if exit_code == -signal.SIGKILL:
        return f"{subject} was killed, as systems do when memory runs out"
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"{subject} crashed ({signal.Signals(-exit_code).name})"
    return f"{subject} ended with exit code {exit_code}"


class _Raised:
    """An exception on its way to the parent."""

    def __init__(self, error: Exception):
        self.error = error


class _NewProcess(subprocess.Popen[bytes]):
    """A new interpreter, with the methods of a `multiprocessing.Process`."""

    def is_alive(self) -> bool:
        return self.poll() is None

    def join(self, timeout: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout)

    @property
    def exitcode(self) -> int | None:
        return self.poll()


def _can_fork() -> bool:
    """Whether a fork is safe, which is the quickest way to a child.

    Threads, of PyTorch or of a progress bar, do not live on in a fork, but their locks do.
    """
    has_threads = "torch" in sys.modules or threading.active_count() > 1
    # Of a pool of `multiprocessing`, for one; it may have no forks.
    is_daemon = multiprocessing.current_process().daemon
    return sys.platform == "linux" and not has_threads and not is_daemon


def _run_fork(parents_end: Connection, connection: Connection, *work: Any) -> None:
    parents_end.close()  # else this process would not see that its parent has closed it
    multiprocessing.current_process().daemon = False  # it may have forks
    _run(connection, *work)


def _run_new(descriptor: int) -> None:
    connection = Connection(descriptor)
    _run(connection, *connection.recv())


def _run(
    connection: Connection,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    parent: int,
    memory: int | None,
) -> None:
    _end_with(parent)
    _raise_oom_score()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if memory is not None:
        limit_memory(memory)
    try:
        target(connection, *arguments)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the parent needs it no more
        pass
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(_Raised(_picklable(error)))


def _serve_calls(connection: Connection, prepare: Callable[[], object] | None) -> None:
    if prepare is not None:
        prepare()
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() > last + _BEAT_SECONDS:
            last = time.monotonic()
            connection.send(("progress", None))

    on_progress(beat)
    while True:
        function, arguments = connection.recv()
        try:
            reply = ("returned", function(*arguments))
        except MemoryError:
            raise
        except Exception as error:
            reply = ("raised", _picklable(error))
        connection.send(reply)


def _picklable(error: Exception) -> Exception:
    """The error; one with its text where it cannot be sent."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with(parent: int) -> None:
    """Let the system end this process when its parent ends, whatever ends that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def _raise_oom_score() -> None:
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        inherited = int(path.read_text())
        score = max(_OOM_SCORE, inherited + _OOM_STEP if inherited >= _OOM_SCORE else 0)
        path.write_text(str(min(score, _MAX_OOM_SCORE)))
