"""Exact reading: the frames of a segment, in order, each checked against the frame index."""

from __future__ import annotations

import logging

from pvio.media.decoders.frame import FrameReader
from pvio.media.decoders.images import ImageReader
from pvio.media.decoders.nvdec import open_cuda
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)


def open_reader(index: FrameIndex, decoder: str = "pyav") -> FrameReader:
    """A reader for the video of the index.

    Args:
        index: of a video file, an image file or an image folder.
        decoder: "pyav"; "torchcodec" (RGB arrays; PyAV nevertheless where torchcodec is not exact,
            see `open_torchcodec`); or "cuda:N" (device N; PyAV where that cannot, see `open_cuda`).
            For images none of them.

    Raises:
        UnreadableVideo: when the file cannot be opened any more.
    """
    if index.has_images:
        return ImageReader(index)
    if decoder == "torchcodec":
        from pvio.media.decoders.torchcodec import open_torchcodec

        reader = open_torchcodec(index)
        if reader is not None:
            return reader
        logger.warning("%s: torchcodec would not be exact; PyAV decodes this file", index.path)
    if decoder.startswith("cuda"):
        return open_cuda(index, int(decoder.removeprefix("cuda:")))
    return PyAVReader(index)
