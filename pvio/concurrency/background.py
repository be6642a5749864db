"""Consume items in a background thread while the next ones are produced."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class BackgroundConsumer(Generic[Item]):
    """Consumes items in a separate thread, in order, while the next ones are produced.

    Use it with `with`: at the end of the block all items are consumed. After an exception in the
    block, pending items are dropped.

    Args:
        consume: called with each item, in the thread.
        max_pending: number of pending items; `put` blocks while there are more.

    Raises:
        BaseException: by `put` and at the end of the block, what `consume` raised.
    """

    def __init__(self, consume: Callable[[Item], object], max_pending: int):
        self._consume = consume
        self._pending: queue.Queue[list[Item]] = queue.Queue(max_pending)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="pvio-background", daemon=True)

    def put(self, item: Item) -> None:
        """Add an item to the queue.

        Raises:
            BaseException: what `consume` raised for an earlier item.
        """
        if self._error is not None:
            raise self._error
        self._pending.put([item])

    def __enter__(self) -> BackgroundConsumer[Item]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._abandoned = kind is not None
        self._pending.put([])
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        # Keeps draining the queue after an error, so that `put` never blocks.
        while items := self._pending.get():
            if self._error is None and not self._abandoned:
                try:
                    self._consume(items[0])
                except BaseException as error:
                    self._error = error
