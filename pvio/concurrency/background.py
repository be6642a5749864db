"""Items used behind their making, in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Behind(Generic[Item]):
    """Hands items on in a thread of its own, in order, while the next ones are made.

    Used with `with`: at the end of the block all items are handed on, unless it ends with an
    exception, which leaves those that wait.

    Args:
        consume: called with each item, in the thread.
        depth: items that may wait; `put` waits while there are more.

    Raises:
        BaseException: by `put` and at the end of the block, what `consume` raised.
    """

    def __init__(self, consume: Callable[[Item], object], depth: int):
        self._consume = consume
        self._waiting: queue.Queue[list[Item]] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="pvio-behind", daemon=True)

    def put(self, item: Item) -> None:
        """Hand on an item."""
        if self._error is not None:
            raise self._error
        self._waiting.put([item])

    def __enter__(self) -> Behind[Item]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._abandoned = kind is not None
        self._waiting.put([])
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        # Goes on to take items when one was refused: nobody shall wait for room in vain.
        while items := self._waiting.get():
            if self._error is None and not self._abandoned:
                try:
                    self._consume(items[0])
                except BaseException as error:
                    self._error = error
