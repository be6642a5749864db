"""Mix a color into decoded YUV or gray planes, by how much of each pixel a shape covers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

Color = str | Sequence[int]
Matrix = Literal["bt601", "smpte170m", "bt470bg", "bt709", "bt2020"]

# Luma weights of red and blue: ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance), as
# listed in ITU-T H.273.
LUMA_WEIGHTS = {
    "bt601": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "bt470bg": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


class Cover(NamedTuple):
    """The covered share of each pixel of a rectangle inside the frame.

    Attributes:
        share: height×width, float32, 0..1.
        left, top: where the rectangle's top left pixel is.
    """

    share: NDArray[np.float32]
    left: int
    top: int


class Planes:
    """The planes of one frame, to be painted on in place; see `Canvas` for the arguments."""

    def __init__(
        self, planes: Sequence[NDArray[Any]], bit_depth: int, full_range: bool, matrix: str
    ) -> None:
        if matrix not in LUMA_WEIGHTS:
            raise ValueError(f"matrix is {matrix!r}; expected one of {', '.join(LUMA_WEIGHTS)}")
        check_planes(planes, bit_depth)
        self.height, self.width = planes[0].shape
        self._format = (matrix, full_range, bit_depth)
        self._luma, self._chroma = planes[0], planes[1:]
        self._step_y, self._step_x = 1, 1
        if self._chroma:
            self._step_y = subsampling(self.height, planes[1].shape[0], "height")
            self._step_x = subsampling(self.width, planes[1].shape[1], "width")

    def blend(self, cover: Cover, color: Color, alpha: float) -> None:
        """Mix the color into all planes; samples that are not covered keep their values.

        Raises:
            ValueError: if `alpha` is not from 0 to 1, or `color` is none.
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha!r}; expected a number from 0 to 1")
        components = rgb_to_yuv(color, *self._format)
        share, left, top = cover
        if alpha != 1:
            share = share * np.float32(alpha)
        height, width = share.shape
        mix(self._luma[top : top + height, left : left + width], share, components[0])
        if not self._chroma:
            return
        mean, row, column = self._cell_means(Cover(share, left, top))
        rows, columns = mean.shape
        for plane, component in zip(self._chroma, components[1:], strict=True):
            mix(plane[row : row + rows, column : column + columns], mean, component)

    def _cell_means(self, cover: Cover) -> tuple[NDArray[np.float32], int, int]:
        """The share covered of each chroma sample's cell, and the first cell's row and column."""
        share, left, top = cover
        step_y, step_x = self._step_y, self._step_x
        if step_y == step_x == 1:
            return share, top, left
        # Widen to whole cells.
        height, width = share.shape
        row, column = top // step_y, left // step_x
        rows = -(-(top + height) // step_y) - row
        columns = -(-(left + width) // step_x) - column
        cells = np.zeros((rows * step_y, columns * step_x), np.float32)
        y, x = top - row * step_y, left - column * step_x
        cells[y : y + height, x : x + width] = share
        lines = cells[:, ::step_x].copy()
        for number in range(1, step_x):
            lines += cells[:, number::step_x]
        total = lines[::step_y].copy()
        for number in range(1, step_y):
            total += lines[number::step_y]
        if (row + rows) * step_y <= self.height and (column + columns) * step_x <= self.width:
            total /= np.float32(step_y * step_x)
        else:  # the last cells of the frame have fewer luma samples
            inside_y = np.minimum(self.height - (row + np.arange(rows)) * step_y, step_y)
            inside_x = np.minimum(self.width - (column + np.arange(columns)) * step_x, step_x)
            total /= np.outer(inside_y, inside_x).astype(np.float32)
        return total, row, column


def mix(samples: NDArray[Any], share: NDArray[np.float32], value: int) -> None:
    """Move samples towards `value` by their share, in place."""
    old = samples.astype(np.float32)
    # Float32 holds 16 bits exactly, so a share of 0 leaves a sample as it is.
    new = value - old
    new *= share
    new += old
    samples[...] = np.rint(new, out=new)


def rgb_to_yuv(color: Color, matrix: str, full_range: bool, bit_depth: int) -> tuple[int, int, int]:
    """Convert an RGB color to integer Y, U, V samples.

    The formulas are those of ITU-T H.273, 8.3 (equations for `VideoFullRangeFlag` 0 and 1).

    Raises:
        ValueError: if `color` is neither a name nor three numbers from 0 to 255.
    """
    name = color if isinstance(color, str) else tuple(color)
    return _rgb_to_yuv(name, matrix, full_range, bit_depth)


@lru_cache(maxsize=1024)
def _rgb_to_yuv(
    color: str | tuple[int, ...], matrix: str, full_range: bool, bit_depth: int
) -> tuple[int, int, int]:
    rgb = ImageColor.getrgb(color)[:3] if isinstance(color, str) else color
    if len(rgb) != 3 or not all(0 <= c <= 255 for c in rgb):
        raise ValueError(f"color is {color!r}; expected a name or three numbers from 0 to 255")
    red, green, blue = (c / 255 for c in rgb)
    kr, kb = LUMA_WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    peak, unit = 2**bit_depth - 1, 2 ** (bit_depth - 8)
    if full_range:
        values = (peak * luma, peak * cb + 128 * unit, peak * cr + 128 * unit)
    else:
        values = (unit * (219 * luma + 16), unit * (224 * cb + 128), unit * (224 * cr + 128))
    y, u, v = (min(max(math.floor(value + 0.5), 0), peak) for value in values)
    return y, u, v


def check_planes(planes: Sequence[NDArray[Any]], bit_depth: int) -> None:
    """Check number, types and sizes of planes.

    Raises:
        ValueError: if they are not those of a frame with this bit depth.
    """
    if len(planes) not in (1, 3):
        raise ValueError(f"planes has {len(planes)} arrays; expected 1 (gray) or 3 (Y, U, V)")
    if not 8 <= bit_depth <= 16:
        raise ValueError(f"bit_depth is {bit_depth!r}; expected 8..16")
    expected = np.dtype(np.uint8 if bit_depth == 8 else "<u2")
    for name, plane in zip("YUV", planes, strict=False):
        if plane.ndim != 2 or plane.dtype != expected:
            raise ValueError(
                f"plane {name} is {plane.dtype} with {plane.ndim} dimensions; "
                f"expected {expected} with 2 at {bit_depth} bits"
            )
        if not plane.flags.writeable:
            raise ValueError(f"plane {name} is read-only; pass a writable array")
    if len(planes) == 3 and planes[1].shape != planes[2].shape:
        raise ValueError(f"planes U and V differ in size: {planes[1].shape} and {planes[2].shape}")


def subsampling(luma: int, chroma: int, side: str) -> int:
    """Luma samples per chroma sample along a side ("height" or "width"): 1, 2 or 4.

    Raises:
        ValueError: if no such ratio gives these numbers of samples.
    """
    for step in (1, 2, 4):
        if -(-luma // step) == chroma:
            return step
    raise ValueError(
        f"chroma {side} is {chroma} for luma {side} {luma}; expected a ratio of 1, 2 or 4"
    )


def colors_for(name: str, colors: Sequence[Color] | None, color: Color, n: int) -> list[Color]:
    """One hashable color for each of n parts.

    Raises:
        ValueError: if there are not n colors; `name` is for the message.
    """
    chosen = [color] * n if colors is None else list(colors)
    if len(chosen) != n:
        raise ValueError(f"{name} has {len(chosen)} colors; expected {n}")
    return [shade if isinstance(shade, str) else tuple(shade) for shade in chosen]
