"""Iteration that resumes after a producer hung or crashed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeVar

from pvio.concurrency.child_process import ChildCrashed
from pvio.concurrency.prefetch import StallTimeout


class Resumable(Protocol):
    """An item that says where to resume after it."""

    @property
    def stop(self) -> int:
        """The position after this item."""


Item = TypeVar("Item", bound=Resumable)
# Called with a position and its error. It may change how items are made, and yields replacements of
# items that cannot be made. Without any, the position is tried again.
Recover = Callable[[int, Exception], Iterable[Item]]


def restartable(
    make: Callable[[int], Generator[Item]], start: int, stop: int, recover: Recover[Item]
) -> Generator[Item]:
    """Items from `start` to `stop`, made again from the last one on after a hang or a crash.

    Args:
        make: called with a position; yields the items from there on, and raises `StallTimeout` or
            `ChildCrashed`.
        start: position of the first item.
        stop: position after the last one.
        recover: called with the position and the error.
    """
    at = start
    while at < stop:
        try:
            with contextlib.closing(make(at)) as items:
                for item in items:
                    yield item
                    at = item.stop
            return
        except (StallTimeout, ChildCrashed) as error:
            failure = error
        for item in recover(at, failure):
            yield item
            at = item.stop
