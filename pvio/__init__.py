"""Run a PyTorch model over every frame of many videos: fast, exact, unkillable.

The names of parallel-video-io 0.1.3 are offered here unchanged. Importing `pvio` is cheap:
everything is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvio.media.encode.writer import VideoWriter
    from pvio.pipeline.results.summary import read_summary
    from pvio.predictions.parquet import read_predictions
    from pvio.torch import VideoCollectionDataLoader, VideoCollectionDataset
    from pvio.video_io import (
        check_num_frames,
        get_video_metadata,
        read_frames_from_video,
        write_frames_to_video,
    )

__version__ = "0.2.0"

_HOME = {
    "read_frames_from_video": "pvio.video_io",
    "write_frames_to_video": "pvio.video_io",
    "check_num_frames": "pvio.video_io",
    "get_video_metadata": "pvio.video_io",
    "VideoCollectionDataset": "pvio.torch",
    "VideoCollectionDataLoader": "pvio.torch",
    "read_predictions": "pvio.predictions.parquet",
    "read_summary": "pvio.pipeline.results.summary",
    "VideoWriter": "pvio.media.encode.writer",
}

# Modules that were loaded with the package of 0.1.3: `pvio.video_io` needs no import of its own.
_MODULES = ("torch", "util", "video_io")

__all__ = [
    "VideoCollectionDataLoader",
    "VideoCollectionDataset",
    "VideoWriter",
    "check_num_frames",
    "get_video_metadata",
    "read_frames_from_video",
    "read_predictions",
    "read_summary",
    "write_frames_to_video",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"pvio.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'pvio' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
