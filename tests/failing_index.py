"""Indexing that fails; on its own, since processes import it."""

from __future__ import annotations

import os
import time
from typing import Any

from pvio.collection.sources import Source
from pvio.pipeline.stages import probe

_index = probe._index


def crash(source: Source, cache: Any) -> Any:
    """Abort at one video, in place of `pvio.pipeline.stages.probe._index`."""
    if "victim" in source.path:
        os.abort()
    return _index(source, cache)


def hang(source: Source, cache: Any) -> Any:
    """The same, which hangs."""
    if "victim" in source.path:
        time.sleep(1000)
    return _index(source, cache)


def eat(source: Source, cache: Any) -> Any:
    """The same, which takes all memory."""
    if "victim" in source.path:
        taken = []
        while True:
            taken.append(bytearray(1 << 25))
    return _index(source, cache)


def unforeseen(source: Source, cache: Any) -> Any:
    """Fail in the same way at every video."""
    probe.rebuild_index = broken  # type: ignore[assignment]
    return _index(source, cache)


def broken(*_: object) -> None:
    """In place of `rebuild_index`."""
    raise AttributeError("module 'av' has no attribute 'open'")
