"""Calls with a timeout, and progress reports of long calls."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pvio.concurrency.prefetch import Heartbeat, StallTimeout

Result = TypeVar("Result")

_local = threading.local()


def call_with_timeout(function: Callable[[], Result], seconds: float) -> Result:
    """Call a function in another thread; a function that hangs is left running.

    Args:
        function: called without arguments.
        seconds: to wait for the result, or after the last `report_progress` of the function.

    Returns:
        The result of the function.

    Raises:
        StallTimeout: when it takes longer.
        Exception: what the function raised.
    """
    heartbeat = Heartbeat()
    results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        on_progress(heartbeat.beat)
        try:
            results.put((function(), None))
        except Exception as error:
            results.put((None, error))

    thread = threading.Thread(target=work, name="pvio-timeout", daemon=True)
    thread.start()
    while True:
        left = heartbeat.last + seconds - time.monotonic()
        try:
            value, error = results.get(timeout=max(0.0, left))
            break
        except queue.Empty:
            if time.monotonic() >= heartbeat.last + seconds:
                raise StallTimeout(f"no result came within {seconds:g} s") from None
    thread.join()
    if error is not None:
        raise error
    result: Result = value
    return result


def report_progress() -> None:
    """Report progress to the caller that waits for this thread, if there is one."""
    beat = getattr(_local, "beat", None)
    if beat is not None:
        beat()


def on_progress(beat: Callable[[], None] | None) -> None:
    """Set the function that `report_progress` calls in this thread."""
    _local.beat = beat


@contextlib.contextmanager
def keep_reporting(every: float = 1.0) -> Iterator[None]:
    """A context for work that may take long and cannot hang: it reports progress regularly.

    Args:
        every: seconds between reports.
    """
    beat = getattr(_local, "beat", None)
    if beat is None:
        yield
        return
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(every):
            beat()

    thread = threading.Thread(target=work, name="pvio-progress", daemon=True)
    on_progress(None)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        on_progress(beat)
