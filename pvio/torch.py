"""Frames of many videos for PyTorch, under the import path of parallel-video-io 0.1.3.

What its module had as names besides the two classes can be imported as well.
"""

import logging  # noqa: F401
from pathlib import Path  # noqa: F401

import torch  # noqa: F401
from torch.utils.data import DataLoader, IterableDataset, get_worker_info  # noqa: F401

from pvio.loader.data_loader import VideoCollectionDataLoader
from pvio.loader.dataset import VideoCollectionDataset
from pvio.util import balance_load_lpt  # noqa: F401
from pvio.video_io import get_video_metadata  # noqa: F401

__all__ = ["VideoCollectionDataLoader", "VideoCollectionDataset"]
