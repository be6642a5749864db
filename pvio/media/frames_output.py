"""The pictures that a model returns, encoded as they come."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

import numpy as np

from pvio.config import OutputSettings
from pvio.errors import EncodeError
from pvio.media.encode import SegmentEncoder
from pvio.media.index import FrameIndex
from pvio.media.output_format import output_format
from pvio.media.planes import RgbConverter, empty_planes


class FramesWriter:
    """Encodes RGB or grey pictures of one segment with the source's matrix and range.

    Args:
        file: binary file to write to.
        index: of the source video.
        start: rank of the segment's first frame.
        settings: of the output.
    """

    def __init__(self, file: BinaryIO, index: FrameIndex, start: int, settings: OutputSettings):
        self._file, self._index, self._settings = file, index, settings
        self._next = start
        self._encoder: SegmentEncoder | None = None
        self._convert: RgbConverter | None = None
        self._last: list[np.ndarray] | None = None
        self._waiting = 0

    def write(self, rank: int, picture: np.ndarray | None) -> None:
        """Write the next frame.

        Args:
            rank: of the frame.
            picture: uint8 H×W×3 or H×W×1; None repeats the picture before, black at the start.

        Raises:
            EncodeError: when the size differs from that of the pictures before.
        """
        if picture is None:
            if self._last is None:
                self._waiting += 1
            else:
                self._put(self._last)
            return
        height, width = picture.shape[:2]
        if self._encoder is None:
            self._open(height, width)
        assert self._encoder is not None
        assert self._convert is not None
        output = self._encoder.output
        if (height, width) != (output.height, output.width):
            raise EncodeError(
                f"{self._index.path}: the model's 'frames' are {height}×{width} at frame {rank} "
                f"and were {output.height}×{output.width} before"
            )
        self._last = self._convert(picture)
        self._put(self._last)

    def close(self) -> None:
        """End the segment; frames that wait for a first picture become black ones."""
        if self._encoder is None:
            self._open(self._index.height, self._index.width)
        assert self._encoder is not None
        self._encoder.close()

    def _open(self, height: int, width: int) -> None:
        output = output_format(self._index, self._settings, (height, width), depth=8)
        self._encoder = SegmentEncoder(self._file, output, self._settings)
        self._convert = RgbConverter(output)
        black = empty_planes(output)
        for _ in range(self._waiting):
            self._put(black)

    def _put(self, planes: list[np.ndarray]) -> None:
        assert self._encoder is not None
        self._encoder.write(planes, int(self._index.pts[self._next]))
        self._next += 1

    def __enter__(self) -> FramesWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
