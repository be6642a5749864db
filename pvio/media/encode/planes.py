"""Pictures as upright planes of luma and chroma, which are drawn on and encoded."""

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
from pvio.media.pixels.layout import to_swscale_format, luma_samples
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
        foreign: whether frames may come from elsewhere than the source: those that are tagged with
            another matrix or range than the output's are converted.
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

        They may be views of the frame, so they are not to be written to.

        Args:
            frame: coded picture as decoded, or planes that this has made before.
        """
        if isinstance(frame, list):
            return frame
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
            and _look_of(frame, self._output) != _look_of(None, self._output)
        ):
            frame = self._recoloured(frame)
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

    def _recoloured(self, frame: av.VideoFrame) -> av.VideoFrame:
        (was_full, matrix), (full, new_matrix) = (
            _look_of(each, self._output) for each in (frame, None)
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
    """Turns RGB and grey pictures into planes, with the matrix and range of the output.

    Args:
        output: format of the planes.
    """

    def __init__(self, output: OutputFormat):
        self._output = output
        self._reformatter = VideoReformatter()

    def __call__(self, picture: np.ndarray) -> list[np.ndarray]:
        """Y, U, V planes, not to be written to.

        Args:
            picture: uint8, H×W×3 (RGB), H×W×1 or H×W (grey).
        """
        if picture.ndim == 2:
            picture = picture[:, :, np.newaxis]
        if picture.shape[2] == 1:
            picture = np.repeat(picture, 3, axis=2)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format=self._output.pix_fmt,
            dst_colorspace=_matrix(self._output),
            src_color_range=FULL,
            dst_color_range=FULL if self._output.full_range else LIMITED,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        return planes_as_arrays(frame, range(3))


def empty_planes(output: OutputFormat) -> list[np.ndarray]:
    """The planes of a black picture."""
    unit = 1 << (output.bit_depth - 8)
    dtype = np.dtype(np.uint8 if output.bit_depth == 8 else "<u2")
    values = (0 if output.full_range else 16 * unit, 128 * unit, 128 * unit)
    return [
        np.full(shape, value, dtype) for shape, value in zip(output.shapes, values, strict=True)
    ]


def _is_full(gray: av.VideoFrame) -> bool:
    """The range of a gray frame: full unless it says otherwise, as FFmpeg takes it."""
    return gray.color_range != LIMITED


def _look_of(frame: av.VideoFrame | None, output: OutputFormat) -> tuple[bool, int]:
    """Whether a frame has full range, and its matrix; the output's where it does not tell."""
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
    return BT601 if output.color[1] == UNTAGGED else output.color[1] or BT709


def _with_depth(luma: np.ndarray, depth: int, output: OutputFormat) -> np.ndarray:
    """Luma of `depth` bits in those of the output."""
    if depth > 16:
        luma, depth = (luma >> (depth - 16)).astype(np.uint16), 16
    change = output.bit_depth - depth
    if change == 0:
        return luma
    dtype = np.dtype(np.uint8 if output.bit_depth == 8 else "<u2")
    if change < 0:
        half, peak = 1 << (-change - 1), (1 << output.bit_depth) - 1
        return np.minimum((luma.astype(np.uint32) + half) >> -change, peak).astype(dtype)
    wide = luma.astype(np.uint32) << change
    if output.full_range:  # white stays white
        wide |= luma >> max(0, depth - change)
    return wide.astype(dtype)
