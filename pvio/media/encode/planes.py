"""Frames as upright planes of luma and chroma, to draw on and to encode."""

from __future__ import annotations

import re
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.media.encode.format import OutputFormat
from pvio.media.pixels.color import (
    BT601,
    BT709,
    FULL,
    LIMITED,
    UNTAGGED,
    bit_depth,
    is_gray,
    is_rgb,
)
from pvio.media.pixels.layout import luma_samples, to_swscale_format
from pvio.media.pixels.orientation import Orientation
from pvio.media.pixels.planes import planes_as_arrays

# Planar YUV whose samples a planar format of the same layout and depth takes as they are.
_PLANAR = re.compile(r"^yuv[aj]?(4\d\dp(?:\d+le)?)$")
_SMPTE170M = 6  # the same matrix as BT601, for other television


class PlanarConverter:
    """Turns decoded frames into upright planes of the output's pixel format.

    A frame that has this format already keeps its samples bit for bit, and so does the luma of a
    gray one; others are converted within their matrix and range. Frames of another size are
    scaled.

    Args:
        output: format of the planes.
        orientation: of the source.
        foreign: whether frames may be from another source than the output's; those with another
            matrix or range are then converted.
    """

    def __init__(self, output: OutputFormat, orientation: Orientation, foreign: bool = False):
        self._output, self._orientation, self._foreign = output, orientation, foreign
        self._reformatter = VideoReformatter()
        self._scaler = VideoReformatter()
        self._size = orientation.upright_size(output.height, output.width)

    def __reduce__(self) -> Any:
        return PlanarConverter, (self._output, self._orientation, self._foreign)

    def __call__(self, frame: Any) -> list[np.ndarray]:
        """Y, U, V planes, upright: uint8, or uint16 for more than 8 bits.

        They may be views of the frame; the caller must not write to them.

        Args:
            frame: as decoded.
        """
        frame = to_swscale_format(frame)
        name = frame.format.name
        if (frame.height, frame.width) != self._size:
            frame = self._scaled(frame)
        if is_gray(name) and _is_full(frame) == self._output.full_range:
            luma = luma_samples(frame)
            if luma is not None:
                planes = empty_planes(self._output)
                upright = self._orientation.apply(luma)
                planes[0] = _with_depth(upright, bit_depth(name), self._output)
                return planes
        planar = _PLANAR.match(name)
        if (
            self._foreign
            and not is_rgb(name)
            and _range_and_matrix(frame, self._output) != _range_and_matrix(None, self._output)
        ):
            frame = self._recolored(frame)
        elif not planar or f"yuv{planar[1]}" != self._output.pix_fmt:
            frame = self._converted(frame)
        return [self._orientation.apply(view) for view in planes_as_arrays(frame, range(3))]

    def _scaled(self, frame: av.VideoFrame) -> av.VideoFrame:
        height, width = self._size
        shrinks = height * width < frame.height * frame.width
        method = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        return self._scaler.reformat(frame, width, height, interpolation=method, threads=1)

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        output, from_rgb = self._output, is_rgb(frame.format.name)
        full = FULL if output.full_range else LIMITED
        as_full = from_rgb or (is_gray(frame.format.name) and _is_full(frame))
        return self._reformatter.reformat(
            frame,
            format=output.pix_fmt,
            interpolation=Interpolation.BICUBIC,
            src_color_range=FULL if as_full else full,
            dst_color_range=full,
            dst_colorspace=_matrix(output) if from_rgb else None,
            threads=1,
        )

    def _recolored(self, frame: av.VideoFrame) -> av.VideoFrame:
        (was_full, matrix), (full, new_matrix) = (
            _range_and_matrix(each, self._output) for each in (frame, None)
        )
        return self._reformatter.reformat(
            frame,
            format=self._output.pix_fmt,
            interpolation=Interpolation.BICUBIC,
            src_color_range=FULL if was_full else LIMITED,
            dst_color_range=FULL if full else LIMITED,
            src_colorspace=matrix,
            dst_colorspace=new_matrix,
            threads=1,
        )


class RgbConverter:
    """Turns RGB and gray frames into planes, with the matrix and range of the output.

    Args:
        output: format of the planes.
    """

    def __init__(self, output: OutputFormat):
        self._output = output
        self._reformatter = VideoReformatter()

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Y, U, V planes; the caller must not write to them.

        Args:
            pixels: uint8, H×W×3 (RGB), H×W×1 or H×W (gray).
        """
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format=self._output.pix_fmt,
            dst_colorspace=_matrix(self._output),
            src_color_range=FULL,
            dst_color_range=FULL if self._output.full_range else LIMITED,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return planes_as_arrays(frame, range(3))


def empty_planes(output: OutputFormat) -> list[np.ndarray]:
    """Y, U and V planes of a black frame."""
    unit = 1 << (output.bit_depth - 8)
    dtype = np.dtype(np.uint8 if output.bit_depth == 8 else "<u2")
    values = (0 if output.full_range else 16 * unit, 128 * unit, 128 * unit)
    return [
        np.full(shape, value, dtype) for shape, value in zip(output.shapes, values, strict=True)
    ]


def _is_full(gray: av.VideoFrame) -> bool:
    """Whether a gray frame has full range; untagged gray has, as in FFmpeg."""
    return gray.color_range != LIMITED


def _range_and_matrix(frame: av.VideoFrame | None, output: OutputFormat) -> tuple[bool, int]:
    """Whether a frame has full range, and its matrix; by default those of the output."""
    full, matrix = output.full_range, _matrix(output)
    if frame is not None:
        if frame.color_range in (LIMITED, FULL):
            full = frame.color_range == FULL
        if frame.format.name.startswith("yuvj"):
            full = True
        if frame.colorspace not in (0, UNTAGGED):
            matrix = int(frame.colorspace)
    return full, BT601 if matrix == _SMPTE170M else matrix


def _matrix(output: OutputFormat) -> int:
    return BT601 if output.color.colorspace == UNTAGGED else output.color.colorspace or BT709


def _with_depth(luma: np.ndarray, depth: int, output: OutputFormat) -> np.ndarray:
    """Luma of `depth` bits converted to the bit depth of the output."""
    if depth > 16:
        luma, depth = (luma >> (depth - 16)).astype(np.uint16), 16
    change = output.bit_depth - depth
    if change == 0:
        return luma
    dtype = np.dtype(np.uint8 if output.bit_depth == 8 else "<u2")
    if change < 0:
        half, peak = 1 << (-change - 1), (1 << output.bit_depth) - 1
        return np.asarray(np.minimum((luma.astype(np.uint32) + half) >> -change, peak), dtype)
    wide = luma.astype(np.uint32) << change
    if output.full_range:  # white stays white
        wide |= luma >> max(0, depth - change)
    return np.asarray(wide, dtype)
