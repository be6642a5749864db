"""Prefetch the items of an iterator in a thread, with a timeout for each."""

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
# Time between checks for cancellation, and time for the thread to end.
_POLL_SECONDS, _JOIN_SECONDS = 0.1, 2.0


class StallTimeout(TimeoutError):
    """No item came within the timeout; the stuck thread is left running."""


class Heartbeat:
    """The time at which the producer of an item last made progress.

    Attributes:
        last: seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.last = time.monotonic()

    def beat(self) -> None:
        """Report progress."""
        self.last = time.monotonic()


class Prefetcher(Generic[Item]):
    """Iterates over items that are produced in advance.

    Args:
        iterable: runs in a separate thread, and is closed there.
        depth: number of prefetched items.
        timeout: seconds to wait for an item, or after the last heartbeat.
        cancel_event: ends the iteration when it is set, also while it waits.
        heartbeat: set by the producer; extends the timeout while it beats.
        wake_every: number of items after which a waiting consumer is woken. It also polls every
            tenth of a second.

    Raises:
        StallTimeout: by the iteration, when no item came within the timeout.
        BaseException: by the iteration, what `iterable` raised.
    """

    def __init__(
        self,
        iterable: Generator[Item],
        depth: int,
        timeout: float,
        cancel_event: threading.Event | None = None,
        heartbeat: Heartbeat | None = None,
        wake_every: int = 1,
    ):
        self._items, self._timeout = iterable, timeout
        self._cancelled = cancel_event or threading.Event()
        self._heartbeat, self._wake_every = heartbeat or Heartbeat(), wake_every
        self._ready: deque[tuple[Any, BaseException | None]] = deque()
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._produce, name="pvio-prefetch", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the thread still works on an item."""
        return self._thread.is_alive()

    def __iter__(self) -> Generator[Item]:
        self._thread.start()
        join_seconds = _JOIN_SECONDS
        try:
            while True:
                try:
                    item, error = self._next()
                except StallTimeout:
                    join_seconds = 0
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
            self._thread.join(join_seconds)

    def _next(self) -> tuple[Any, BaseException | None]:
        began = time.monotonic()
        while not self._cancelled.is_set():
            if self._ready:
                return self._ready.popleft()
            if time.monotonic() > max(began, self._heartbeat.last) + self._timeout:
                raise StallTimeout(f"no item came within {self._timeout:g} s")
            with contextlib.suppress(queue.Empty):
                self._wakes.get(timeout=_POLL_SECONDS)
        return _END, None

    def _produce(self) -> None:
        end: tuple[Any, BaseException | None] = _END, None
        try:
            for number, item in enumerate(self._items, 1):
                self._room.acquire()
                if self._closed:
                    return
                self._ready.append((item, None))
                # Waking a thread for every frame costs as much as copying a small frame.
                if number % self._wake_every == 0:
                    self._wakes.put(None)
        except BaseException as error:
            end = _END, error
        finally:
            self._ready.append(end)
            self._wakes.put(None)
            self._items.close()
