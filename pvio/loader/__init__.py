"""Frames of many videos for PyTorch: dataset and data loader of parallel-video-io 0.1.3.

The workflow does not use it; it reads through the same index and decoders.
"""
