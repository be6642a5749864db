"""From decoded frames to the uint8 pictures that models and writers take."""

from __future__ import annotations

import re
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.media.orientation import Orientation

# Formats whose first plane holds the luma samples as they are, least significant byte first.
_LUMA_FIRST = re.compile(r"^(yuva?j?4\d\dp(\d+le)?|gray(\d+le)?|nv(12|16|21|24|61|42))$")


def plane_view(frame: av.VideoFrame, number: int) -> np.ndarray:
    """A plane of a planar frame as a view: H×W, uint8, or uint16 for more than 8 bits."""
    plane = frame.planes[number]
    depth = frame.format.components[min(number, len(frame.format.components) - 1)].bits
    dtype = np.dtype(np.uint8 if depth <= 8 else "<u2")
    rows = np.frombuffer(memoryview(plane), dtype).reshape(
        plane.height, plane.line_size // dtype.itemsize
    )
    return rows[:, : plane.width]


class Converter:
    """Writes decoded frames as upright uint8 pictures into arrays of the caller's.

    RGB conversion follows the frame's tagged matrix and range (bt601 where untagged, FFmpeg's
    own default). Grey is the luma samples as coded, in the range as coded; of more than 8 bits
    the high 8 are kept; for sources that have no luma plane it is FFmpeg's grey of the RGB.

    Args:
        channels: "rgb" or "gray".
        height, width: size of the pictures delivered, upright, in pixels.
        orientation: how coded pictures are turned to be upright.
    """

    def __init__(self, channels: str, height: int, width: int, orientation: Orientation):
        self.channels = channels
        self.shape = (height, width, 3 if channels == "rgb" else 1)
        self._orientation = orientation
        self._coded = orientation.upright_size(height, width)
        self._to_format = VideoReformatter()
        self._to_size = VideoReformatter()

    def __reduce__(self) -> Any:
        return Converter, (self.channels, *self.shape[:2], self._orientation)

    def __call__(self, picture: av.VideoFrame | np.ndarray) -> np.ndarray:
        """One picture in an array of its own; `into` takes it as it is."""
        out = np.empty(self.shape, np.uint8)
        self.into(picture, out)
        return out

    def into(self, picture: av.VideoFrame | np.ndarray, out: np.ndarray) -> None:
        """Write one picture.

        Args:
            picture: a decoded frame, or an upright array H×W×C of uint8.
            out: uint8, `self.shape`, written in place.
        """
        if isinstance(picture, np.ndarray):
            out[...] = self._resized(picture, self.shape[:2], "rgb24")
        elif self.channels == "rgb":
            frame = self._resize_to_rgb(picture)
            rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
            pixels = rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)
            out[...] = self._orientation.apply(pixels)
        else:
            out[:, :, 0] = self._orientation.apply(self._luma(picture))

    def _resize_to_rgb(self, frame: av.VideoFrame) -> av.VideoFrame:
        height, width = self._coded
        shrinks = height * width < frame.height * frame.width
        same = (frame.height, frame.width) == (height, width)
        method = Interpolation.POINT if same else Interpolation.AREA
        if not same and not shrinks:
            method = Interpolation.BICUBIC
        return self._to_format.reformat(
            frame, width, height, "rgb24", interpolation=method, threads=1
        )

    def _luma(self, frame: av.VideoFrame) -> np.ndarray:
        if not _LUMA_FIRST.match(frame.format.name):
            frame = self._to_format.reformat(frame, format="gray", threads=1)
        luma = plane_view(frame, 0)
        if luma.dtype != np.uint8:
            luma = (luma >> (frame.format.components[0].bits - 8)).astype(np.uint8)
        return self._resized(luma, self._coded, "gray")

    def _resized(self, pixels: np.ndarray, size: tuple[int, int], form: str) -> np.ndarray:
        if pixels.shape[:2] == size:
            return pixels
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=form)
        shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        frame = self._to_size.reformat(source, size[1], size[0], interpolation=method, threads=1)
        return frame.to_ndarray()
