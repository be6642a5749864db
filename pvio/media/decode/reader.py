"""Exact reading: the frames of a segment, in order, each checked against the frame index."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from pvio.media.decoders.frame import SHOWN, Decoded, Reader
from pvio.media.decoders.images import ImageReader
from pvio.media.decoders.nvdec import open_cuda
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

log = logging.getLogger(__name__)


def open_reader(index: FrameIndex, decoder: str = "pyav") -> Reader:
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
        log.warning("%s: torchcodec would not be exact; PyAV decodes this file", index.path)
    if decoder.startswith("cuda"):
        return open_cuda(index, int(decoder.removeprefix("cuda:")))
    return PyAVReader(index)


def read_ranks(reader: Reader, ranks: Iterable[int]) -> Iterator[Decoded]:
    """The frames of ascending, distinct ranks; decodes on where that is shorter than a seek."""
    pending = list(ranks)
    while pending:
        # One run of decoding covers all ranks up to the first one behind a later keyframe.
        run = [pending[0]]
        for rank in pending[1:]:
            if reader.index.keyframe_at_or_before(rank) > run[-1]:
                break
            run.append(rank)
        pending = pending[len(run) :]
        wanted = set(run)
        for decoded in reader.frames(run[0], run[-1] + 1):
            if decoded.rank in wanted:
                yield decoded


def sample_ranks(index: FrameIndex, n: int) -> list[int]:
    """Up to `n` ranks spread evenly over a video, at keyframes where there are enough of them."""
    if index.n_frames <= n:
        return list(range(index.n_frames))
    candidates = index.keyframes if len(index.keyframes) >= n else np.arange(index.n_frames)
    chosen = np.linspace(0, len(candidates) - 1, n).round().astype(int)
    return [int(rank) for rank in candidates[chosen]]


def sample_pictures(reader: Reader, converter: FrameConverter, n: int) -> np.ndarray:
    """Up to `n` pictures spread over the video: uint8, N×H×W×C; damaged frames are left out."""
    pictures = []
    for decoded in read_ranks(reader, sample_ranks(reader.index, n)):
        if decoded.picture is not None and decoded.status in SHOWN:
            out = np.empty(converter.output_shape, np.uint8)
            converter.convert_into(decoded.picture, out)
            pictures.append(out)
    return np.stack(pictures) if pictures else np.empty((0, *converter.output_shape), np.uint8)
