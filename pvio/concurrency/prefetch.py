"""Items of an iterator made ahead of their use in a thread, with a limit on the wait for each."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Generator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

_END = object()
# Seconds: how often a wait looks whether it is still wanted, and how long the thread has to end.
_GLANCE, _FAREWELL = 0.1, 2.0


class Stalled(Exception):
    """No item came within the time limit; the thread that makes them is left to itself."""


class Pulse:
    """When whoever makes an item last gave a sign of life, by the monotonic clock.

    Attributes:
        at: seconds.
    """

    def __init__(self) -> None:
        self.at = time.monotonic()

    def beat(self) -> None:
        """Note that the maker still works."""
        self.at = time.monotonic()


class Ahead(Generic[Item]):
    """Iterates over items, of which some are made before they are asked for.

    Args:
        items: runs in a thread of its own; closed there, too.
        depth: items that may wait.
        limit: seconds to wait for one, and behind a sign of life from its maker.
        cancelled: ends the iteration, also while it waits, when it is set.
        pulse: of the maker, if it takes long.
        group: after so many items whoever waits is woken; before, a glance finds them.

    Raises:
        Stalled: by the iteration, when no item came within the limit.
        BaseException: by the iteration, what `items` raised.
    """

    def __init__(
        self,
        items: Generator[Item],
        depth: int,
        limit: float,
        cancelled: threading.Event,
        pulse: Pulse | None = None,
        group: int = 1,
    ):
        self._items, self._limit, self._cancelled = items, limit, cancelled
        self._pulse, self._group = pulse or Pulse(), group
        self._ready: deque[tuple[Any, BaseException | None]] = deque()
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._make, name="pvio-decode", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the thread is still busy with an item."""
        return self._thread.is_alive()

    def __iter__(self) -> Generator[Item]:
        self._thread.start()
        farewell = _FAREWELL
        try:
            while True:
                try:
                    item, error = self._next()
                except Stalled:
                    farewell = 0
                    raise
                self._room.release()
                if error is not None:
                    raise error
                if item is _END:
                    return
                yield item
        finally:
            self._closed = True
            self._room.release()
            self._thread.join(farewell)

    def _next(self) -> tuple[Any, BaseException | None]:
        began = time.monotonic()
        while not self._cancelled.is_set():
            if self._ready:
                return self._ready.popleft()
            if time.monotonic() > max(began, self._pulse.at) + self._limit:
                raise Stalled
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=_GLANCE)
        return _END, None

    def _make(self) -> None:
        end: tuple[Any, BaseException | None] = _END, None
        try:
            for number, item in enumerate(self._items, 1):
                self._room.acquire()
                if self._closed:
                    return
                self._ready.append((item, None))
                # To wake a thread for every picture costs as much as to copy a small one. One that
                # waits while the next takes its time is found by a glance.
                if number % self._group == 0:
                    self._wakes.put(None)
        except BaseException as error:
            end = _END, error
        finally:
            self._ready.append(end)
            self._wakes.put(None)
            self._items.close()
