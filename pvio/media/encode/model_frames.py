"""Encode the frames that a model returns."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

import numpy as np

from pvio.config.output import OutputSettings
from pvio.errors import EncodeError
from pvio.media.decoders.frame import Status
from pvio.media.draw.canvas import Canvas, mark
from pvio.media.encode.format import output_format
from pvio.media.encode.planes import RgbConverter
from pvio.media.encode.segment import SegmentEncoder
from pvio.media.index.frame_index import FrameIndex


class ModelFrameWriter:
    """Encodes RGB or gray frames of one segment with the source's matrix and range.

    If the source's size is not known, none of its frames can be decoded, and nothing is written.

    Args:
        file: binary file to write to.
        index: of the source video.
        start: number of the segment's first frame.
        settings: of the output.
    """

    def __init__(self, file: BinaryIO, index: FrameIndex, start: int, settings: OutputSettings):
        self._file, self._index, self._settings = file, index, settings
        self._next = start
        self._encoder: SegmentEncoder | None = None
        self._convert: RgbConverter | None = None
        self._last: list[np.ndarray] | None = None

    def write(self, pixels: np.ndarray | None, status: Status) -> None:
        """Write the next frame; one whose status is not `ok` is marked with it.

        Args:
            pixels: uint8 H×W×3 or H×W×1; None repeats the frame before.
            status: of the frame.

        Raises:
            EncodeError: if the size differs from that of the frames before.
        """
        if not self._index.has_size:
            return
        if pixels is not None:
            self.set_fallback(pixels)
        assert self._encoder is not None
        assert self._last is not None
        planes = self._encoder.load_planes(self._last)
        if status != "ok":
            mark(Canvas(planes, **self._encoder.output.canvas_options), status)
        self._encoder.encode(int(self._index.pts[self._next]))
        self._next += 1

    def set_fallback(self, pixels: np.ndarray) -> None:
        """Set what is written for frames without pixels, until others are written.

        Args:
            pixels: uint8 H×W×3 or H×W×1.

        Raises:
            EncodeError: if the size differs from that of the frames before.
        """
        if not self._index.has_size:
            return
        height, width = pixels.shape[:2]
        if self._encoder is None or self._convert is None:
            output = output_format(self._index, self._settings, (height, width), depth=8)
            self._encoder = SegmentEncoder(self._file, output, self._settings)
            self._convert = RgbConverter(output)
        output = self._encoder.output
        if (height, width) != (output.height, output.width):
            raise EncodeError(
                f"{self._index.path}: the model's 'frames' are {height}×{width} at frame "
                f"{self._next} and were {output.height}×{output.width} before"
            )
        self._last = self._convert(pixels)

    def close(self) -> None:
        """End the segment."""
        if self._encoder is not None:
            self._encoder.close()

    def __enter__(self) -> ModelFrameWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
