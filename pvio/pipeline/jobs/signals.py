"""Clean termination of jobs when the workflow is terminated."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType

import psutil

# The workflow sets it for the command of each job, so all child processes of a job have it.
JOB_VARIABLE = "PVIO_JOB"
# Between two searches for jobs that were about to start.
_SECONDS_BETWEEN = 0.2


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process cleanly, as Ctrl-C does.

    Raises:
        SystemExit: by the handler, at SIGTERM: 128 plus the number of the signal.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing must interrupt the cleanup
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def terminate_jobs_on_sigterm() -> None:
    """Let SIGTERM to this process, Snakemake, also end the jobs that run on this host.

    Snakemake itself would start no more jobs and wait for the running ones.
    """
    before = signal.getsignal(signal.SIGTERM)
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        try:
            if os.getpid() == owner:  # not a fork of it
                ended = _end_jobs(set())
                threading.Thread(target=_end_late_jobs, args=(ended,), daemon=True).start()
        finally:
            if callable(before):
                before(number, frame)

    signal.signal(signal.SIGTERM, end)


def _end_late_jobs(ended: set[psutil.Process]) -> None:
    """End jobs of which only the shell was running when the signal came."""
    while True:
        time.sleep(_SECONDS_BETWEEN)
        with contextlib.suppress(psutil.Error, OSError):
            _end_jobs(ended)


def _end_jobs(ended: set[psutil.Process]) -> set[psutil.Process]:
    """Send SIGTERM to the jobs that are below this process and did not get it yet.

    A job ends its own child processes, and the shell around it ends with it.

    Args:
        ended: jobs that got it; the others are added.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            parent = process.parent()
            if _is_job(process) and not _is_job(parent) and not {process, parent} & ended:
                found.append(process)
    # Deferred: child processes that remain when a job ends would look like jobs.
    for process in found:
        with contextlib.suppress(psutil.Error, OSError):
            process.terminate()
            ended.add(process)
    return ended


def _is_job(process: psutil.Process | None) -> bool:
    """Whether a process is a job, or was started by one."""
    if process is None:
        return False
    try:
        return JOB_VARIABLE in process.environ()
    except (psutil.Error, OSError):
        return False
