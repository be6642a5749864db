"""Calls that are given up when they take too long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pvio.concurrency.prefetch import Stalled

Result = TypeVar("Result")

_local = threading.local()


def keep_helper() -> None:
    """Let `within` use the same thread again for all calls from this thread.

    To start one takes as long as to decode a small picture. For threads and processes of a pool:
    elsewhere a thread that stays would be in the way of whoever forks.
    """
    _local.keeps = True


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """What a function returns, which runs in another thread; one that hangs is left to itself.

    Raises:
        Stalled: when it takes longer.
        Exception: what the function raised.
    """
    helper = getattr(_local, "helper", None) or _Helper()
    _local.helper = None
    helper.calls.put(function)
    try:
        value, error = helper.results.get(timeout=seconds)
    except queue.Empty:
        raise Stalled from None
    if getattr(_local, "keeps", False):
        _local.helper = helper
    else:
        helper.end()
    if error is not None:
        raise error
    result: Result = value
    return result


class _Helper:
    """A thread that makes one call after the other, until nothing refers to this any more."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_serve, args=(self.calls, self.results), name="pvio-helper", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        self.calls.put(None)
        self._thread.join()

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
