"""Items of an iterator made ahead of their use in a thread, with a limit on the wait for each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()


class Stalled(Exception):
    """No item came within the time limit; the thread that makes them is left to itself."""


def ahead(items: Generator[Item], depth: int, limit: float) -> Iterator[Item]:
    """The items, of which up to `depth` are made before they are asked for.

    Args:
        items: runs in a thread of its own; closed there, too.
        depth: items that may wait.
        limit: seconds to wait for one.

    Raises:
        Stalled: when none came within the limit.
        BaseException: what `items` raised.
    """
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    closed = threading.Event()

    def make() -> None:
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    return
                ready.put((item, None))
                del item  # pictures are large
            ready.put((_END, None))
        except BaseException as error:
            ready.put((_END, error))
        finally:
            items.close()

    thread = threading.Thread(target=make, name="pvio-ahead", daemon=True)
    thread.start()
    patience = limit
    try:
        while True:
            try:
                item, error = ready.get(timeout=limit)
            except queue.Empty:
                patience = 0
                raise Stalled from None
            room.release()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        closed.set()
        room.release()
        thread.join(patience)
