"""The pictures that a model returns, encoded as they come."""

from __future__ import annotations

from types import TracebackType
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.config import OutputSettings
from pvio.errors import EncodeError
from pvio.media.encode import SegmentEncoder, output_color
from pvio.media.index import FrameIndex
from pvio.media.picture import plane_view

_LIMITED, _FULL, _BT601 = 1, 2, 5


class FramesWriter:
    """Encodes RGB or grey pictures of one segment with the source's matrix and range.

    Args:
        file: binary file to write to.
        index: of the source video.
        start: rank of the segment's first frame.
        settings: of the output.
    """

    def __init__(self, file: BinaryIO, index: FrameIndex, start: int, settings: OutputSettings):
        self._file, self._index, self._start, self._settings = file, index, start, settings
        self._encoder: SegmentEncoder | None = None
        self._reformatter = VideoReformatter()
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
            if self._encoder is None or self._last is None:
                self._waiting += 1
            else:
                self._encoder.write(self._last)
            return
        height, width = picture.shape[:2]
        if self._encoder is None:
            self._open(height, width)
        assert self._encoder is not None
        if (height, width) != (self._encoder.height, self._encoder.width):
            raise EncodeError(
                f"{self._index.path}: the model's 'frames' are {height}×{width} at frame {rank} "
                f"and were {self._encoder.height}×{self._encoder.width} before"
            )
        self._last = self._planes(picture)
        self._encoder.write(self._last)

    def close(self) -> None:
        """End the segment; frames that wait for a first picture become black ones."""
        if self._encoder is None:
            self._open(self._index.height, self._index.width)
        assert self._encoder is not None
        self._encoder.close()

    def _open(self, height: int, width: int) -> None:
        self._encoder = SegmentEncoder(
            self._file, self._index, self._start, self._settings, (height, width)
        )
        black = self._planes(np.zeros((height, width, 3), np.uint8))
        for _ in range(self._waiting):
            self._encoder.write(black)

    def _planes(self, picture: np.ndarray) -> list[np.ndarray]:
        assert self._encoder is not None
        if picture.shape[2] == 1:
            picture = np.repeat(picture, 3, axis=2)
        color = output_color(self._index)
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = self._reformatter.reformat(
            source,
            format=self._encoder.pixel_format,
            dst_colorspace=color[1] if color[1] != 2 else _BT601,
            src_color_range=_FULL,
            dst_color_range=_FULL if color[0] == _FULL else _LIMITED,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return [plane_view(frame, number).copy() for number in range(3)]

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
