"""Calls that are given up when they take too long."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pvio.media.ahead import Stalled

Result = TypeVar("Result")

_local = threading.local()


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """What a function returns, which runs in another thread.

    To start a thread takes as long as to decode a small picture, so each thread that calls this
    keeps its helper. One that hangs is left to itself.

    Raises:
        Stalled: when it takes longer.
        Exception: what the function raised.
    """
    helper: _Helper | None = getattr(_local, "helper", None)
    if helper is None or helper.pid != os.getpid():  # a forked process has no threads
        helper = _Helper()
    _local.helper = None
    helper.calls.put(function)
    try:
        value, error = helper.results.get(timeout=seconds)
    except queue.Empty:
        raise Stalled from None
    _local.helper = helper
    if error is not None:
        raise error
    return value


class _Helper:
    """A thread that makes one call after the other, until nothing refers to this any more."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        thread = threading.Thread(
            target=_serve, args=(self.calls, self.results), name="pvio-helper", daemon=True
        )
        thread.start()

    def __del__(self) -> None:
        self.calls.put(None)


def _serve(calls: queue.SimpleQueue[Any], results: queue.SimpleQueue[Any]) -> None:
    while (function := calls.get()) is not None:
        result: tuple[Any, Exception | None]
        try:
            result = function(), None
        except Exception as error:
            result = None, error
        del function
        results.put(result)
        del result
