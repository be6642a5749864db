"""The grouping of frames into batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pvio.loader.frame_ranges import FrameRange
from pvio.media.index.frame_index import FrameIndex


def count_batches(
    ranges: Iterable[FrameRange],
    n_frames: Mapping[Path, int],
    indexes: Mapping[Path, FrameIndex],
    batch_size: int,
    drop_last: bool,
) -> int:
    """Number of batches that a worker with these ranges makes when no frame is damaged."""
    sizes = [
        (
            (index.height, index.width) if (index := indexes.get(each.path)) else None,
            min(each.stop, n_frames[each.path]) - each.start,
        )
        for each in ranges
        if n_frames[each.path]
    ]
    lengths = (sum(n for _, n in same) for _, same in groupby(sizes, key=lambda item: item[0]))
    return sum(n // batch_size if drop_last else math.ceil(n / batch_size) for n in lengths)


def split_by_shape(
    items: Iterable[dict[str, Any]], batch_size: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Lists of consecutive items whose frames have one shape, of at most `batch_size` items."""
    group: list[dict[str, Any]] = []
    for item in items:
        if (group and group[0]["frame"].shape != item["frame"].shape) or len(group) == batch_size:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
