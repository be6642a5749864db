"""Frames of many videos for PyTorch, under the import path of parallel-video-io 0.1.3."""

from pvio.loader import VideoCollectionDataLoader, VideoCollectionDataset

__all__ = ["VideoCollectionDataLoader", "VideoCollectionDataset"]
