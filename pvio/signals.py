"""Ending jobs in order when the workflow is asked to end."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

import psutil


def end_on_sigterm() -> None:
    """Let SIGTERM end what this process is doing in order, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing shall interrupt the clearing up
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def end_jobs_on_sigterm() -> None:
    """Let SIGTERM to this process, Snakemake, also end the jobs that run on this host.

    Snakemake itself would start no further jobs and wait for these, however long they take.
    """
    before = signal.getsignal(signal.SIGTERM)
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:  # and no fork of it
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # The shell around a job ends with it, and what it started it ends itself.
                    if child.name() == "pvio" != child.parent().name():
                        child.terminate()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, end)
