"""Look-ups in the file system, in threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# For looking up many entries; more than cores, to hide the latency of a network. One thread does
# some of them at once: to hand over a task takes as long as a lookup on a local disk.
LOOKUP_THREADS, _LOOKUPS = 8, 64


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], at_once: int = _LOOKUPS
) -> list[Result]:
    """`function` of every item, in threads, for what waits for the file system.

    Args:
        function: called in the order of the items within a thread.
        items: to look up.
        at_once: items that a thread takes at once.
    """

    def of(part: Sequence[Item]) -> list[Result]:
        return [function(item) for item in part]

    parts = [items[i : i + at_once] for i in range(0, len(items), at_once)]
    with ThreadPoolExecutor(LOOKUP_THREADS) as pool:
        return [result for part in pool.map(of, parts) for result in part]
