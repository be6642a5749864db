"""Indexing whose process dies at one video; on its own, since processes import it."""

from __future__ import annotations

import os
from typing import Any

from pvio.collection.sources import Source
from pvio.pipeline.stages import probe

_index = probe._index


def index(source: Source, store: Any) -> Any:
    """In place of `pvio.pipeline.stages.probe._index`."""
    if "victim" in source.path:
        os._exit(1)
    return _index(source, store)
