"""Convert decoded frames to uint8 arrays for models and writers."""

from __future__ import annotations

from functools import partial
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.media.pixels.layout import luma_bytes, to_swscale_format
from pvio.media.pixels.orientation import Orientation
from pvio.media.pixels.planes import plane_as_array, planes_as_arrays

# Formats that swscale converts to planar RGB as fast as, and bit by bit as, to interleaved RGB.
_PLANAR_RGB_FROM = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")


class FrameConverter:
    """Writes decoded frames, rotated for display, as uint8 into the caller's arrays.

    RGB conversion follows the frame's tagged matrix and range (bt601 where untagged, FFmpeg's
    own default). Gray is the luma samples as coded, in the range as coded; of more than 8 bits
    the high 8 are kept; for sources without luma samples it is FFmpeg's gray of the RGB.

    Args:
        channels: "rgb" or "gray".
        height, width: size of the output in pixels, after rotation for display.
        orientation: how coded frames are rotated for display.
        planar: whether the output is C×H×W instead of H×W×C.

    Attributes:
        output_shape: of the arrays.
    """

    def __init__(
        self,
        channels: str,
        height: int,
        width: int,
        orientation: Orientation,
        *,
        planar: bool = False,
    ):
        n = 3 if channels == "rgb" else 1
        self.output_shape = (n, height, width) if planar else (height, width, n)
        self._arguments = (channels, height, width, orientation)
        self._is_rgb, self._planar, self._size = channels == "rgb", planar, (height, width)
        self._orientation = orientation
        self._coded = orientation.upright_size(height, width)
        self._to_format = VideoReformatter()
        self._to_size = VideoReformatter()
        self._to_planes = VideoReformatter()

    def __reduce__(self) -> Any:
        return partial(FrameConverter, planar=self._planar), self._arguments

    def __call__(self, pixels: av.VideoFrame | np.ndarray) -> np.ndarray:
        """One converted frame, in an array of its own."""
        out = np.empty(self.output_shape, np.uint8)
        self.convert_into(pixels, out)
        return out

    def convert_into(self, pixels: av.VideoFrame | np.ndarray, out: np.ndarray) -> None:
        """Write one converted frame.

        Args:
            pixels: a decoded frame, or an upright array H×W×3 of uint8.
            out: uint8, `output_shape`, written in place.
        """
        if isinstance(pixels, np.ndarray):
            resized = self._resized(pixels, self._size, "rgb24")
            out[...] = resized.transpose(2, 0, 1) if self._planar else resized
        elif self._is_rgb and self._planar and self._has_fast_planes(pixels):
            frame = self._resize_to_rgb(pixels, "gbrp")
            for plane, view in zip(out, planes_as_arrays(frame, (2, 0, 1)), strict=True):
                plane[...] = self._orientation.apply(view)
        elif self._is_rgb:
            frame = self._resize_to_rgb(pixels, "rgb24")
            rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
            rgb = rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)
            rgb = self._orientation.apply(rgb)
            out[...] = rgb.transpose(2, 0, 1) if self._planar else rgb
        else:
            luma = self._orientation.apply(self._luma(pixels))
            out[...] = luma[np.newaxis] if self._planar else luma[:, :, np.newaxis]

    def _has_fast_planes(self, frame: av.VideoFrame) -> bool:
        # swscale (FFmpeg 8) leaves the last columns of planar RGB unwritten at some widths, and
        # takes another path, with other values, at odd heights.
        is_right = not 0 < frame.width % 16 <= 8 and frame.height % 2 == 0
        same = (frame.height, frame.width) == self._coded
        return same and is_right and frame.format.name in _PLANAR_RGB_FROM

    def _resize_to_rgb(self, frame: av.VideoFrame, form: str) -> av.VideoFrame:
        if frame.format.name == "nv12":
            # From GPUs. swscale rounds it in another way than the same samples in planes.
            frame = self._to_planes.reformat(frame, format="yuv420p", threads=1)
        frame = to_swscale_format(frame)
        height, width = self._coded
        shrinks = height * width < frame.height * frame.width
        same = (frame.height, frame.width) == (height, width)
        method = Interpolation.POINT if same else Interpolation.AREA
        if not same and not shrinks:
            method = Interpolation.BICUBIC
        return self._to_format.reformat(frame, width, height, form, interpolation=method, threads=1)

    def _luma(self, frame: av.VideoFrame) -> np.ndarray:
        luma = luma_bytes(frame)
        if luma is None:
            gray = self._to_format.reformat(to_swscale_format(frame), format="gray", threads=1)
            luma = plane_as_array(gray, 0)
        return self._resized(luma, self._coded, "gray")

    def _resized(self, pixels: np.ndarray, size: tuple[int, int], form: str) -> np.ndarray:
        if pixels.shape[:2] == size:
            return pixels
        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=form)
        shrinks = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        frame = self._to_size.reformat(source, size[1], size[0], interpolation=method, threads=1)
        return frame.to_ndarray()
