"""Draw on decoded YUV or gray planes in place, without converting the picture's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

Color = str | Sequence[int]
Point = tuple[float, float]
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
# Far outside any picture, yet small enough for Pillow's integer arithmetic.
FAR = 1e6


class Canvas:
    """Draw points, lines, ellipses, masks and text on the planes of one decoded picture.

    Coordinates are float pixels of the picture: x to the right, y down, pixel centres at integers,
    so that the picture covers [-0.5, width - 0.5] × [-0.5, height - 0.5]. Anything may lie partly
    or fully outside. A shape with a coordinate or a size that is NaN or infinite is not drawn.
    Edges are smoothed; samples a shape does not cover keep their values bit for bit.

    `color` is three integers 0..255 (R, G, B) or a name or hex string that Pillow's `ImageColor`
    knows ("red", "#ff8800"); `alpha` is the opacity, 0..1.

    Parameters
    ----------
    planes
        One array (gray) or three (Y, U, V), each 2-D, writable, uint8, or uint16 with the samples
        in the low bits. The chroma subsampling follows from the shapes (4:4:4, 4:2:2, 4:2:0,
        4:1:1, ...; odd sizes rounded up).
    bit_depth
        Bits per sample, 8..16.
    full_range
        Whether luma uses 0..2^n-1 (True) or 16..235 scaled to the bit depth (False).
    matrix
        The picture's matrix coefficients.

    Raises
    ------
    ValueError
        If the planes do not fit together, or an option has a value that is not allowed.
    """

    def __init__(
        self,
        planes: Sequence[NDArray[Any]],
        *,
        bit_depth: int = 8,
        full_range: bool = False,
        matrix: Matrix | str = "bt709",
    ) -> None:
        if matrix not in LUMA_WEIGHTS:
            raise ValueError(f"matrix is {matrix!r}; expected one of {', '.join(LUMA_WEIGHTS)}")
        check_planes(planes, bit_depth)
        self.height, self.width = planes[0].shape
        self.bit_depth = bit_depth
        self.full_range = full_range
        self.matrix = matrix
        self._luma = planes[0]
        self._chroma = planes[1:]
        self._step_y, self._step_x = 1, 1
        if self._chroma:
            self._step_y = subsampling(self.height, planes[1].shape[0], "height")
            self._step_x = subsampling(self.width, planes[1].shape[1], "width")

    def point(
        self, x: float, y: float, radius: float = 3, color: Color = "red", *, alpha: float = 1.0
    ) -> None:
        """Draw a filled disc."""
        self._ring(x, y, radius, radius, 0.0, color, None, alpha)

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        color: Color = "red",
        width: float = 1,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw a circle's outline, `width` pixels thick, centred on the radius."""
        self._ring(x, y, radius, radius, 0.0, color, width, alpha)

    def ellipse(
        self,
        x: float,
        y: float,
        major: float,
        minor: float,
        angle: float,
        color: Color = "red",
        width: float = 1,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw an ellipse's outline.

        `major` and `minor` are the semi-axes in pixels, `angle` the major axis's direction in
        radians from +x towards +y (downwards).
        """
        self._ring(x, y, major, minor, angle, color, width, alpha)

    def line(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        color: Color = "red",
        width: float = 1,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw a straight line with round ends."""
        self.polyline([(x0, y0), (x1, y1)], color, width, alpha=alpha)

    def polyline(
        self,
        points: Sequence[Point] | NDArray[Any],
        color: Color = "red",
        width: float = 1,
        closed: bool = False,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw lines through N points (N×2: x, y). A point with NaN leaves a gap."""
        track = [(float(x), float(y)) for x, y in points]
        if closed and len(track) > 2:
            track.append(track[0])
        shapes = [segment_outline(a, b, width) for a, b in pairwise(track) if finite(*a, *b)]
        if shapes and finite(width):
            # Round joints and ends; on a thin line they cannot be seen.
            if width > 1.5:
                shapes += [
                    ellipse_outline(x, y, width / 2, width / 2, 0.0)
                    for x, y in track
                    if finite(x, y)
                ]
            self._polygons(shapes, [], color, alpha)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        color: Color = "red",
        width: float = 1,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw the outline of the rectangle with these two opposite corners."""
        if not finite(x0, y0, x1, y1, width):
            return
        left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        half = width / 2
        # Four bars that do not overlap, each in its own small mask.
        for bar in (
            rectangle(left - half, top - half, right + half, top + half),
            rectangle(left - half, bottom - half, right + half, bottom + half),
            rectangle(left - half, top + half, left + half, bottom - half),
            rectangle(right - half, top + half, right + half, bottom - half),
        ):
            self._polygons([bar], [], color, alpha)

    def mask(self, mask: NDArray[Any], color: Color = "red", alpha: float = 0.5) -> None:
        """Tint the pixels where `mask` (height×width, bool) is true.

        Raises
        ------
        ValueError
            If the mask does not have the picture's size.
        """
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (self.height, self.width):
            raise ValueError(f"mask is {mask.shape}; the picture is {(self.height, self.width)}")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            top, left = int(rows[0]), int(columns[0])
            part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
            self._blend(part.astype(np.float32), left, top, color, alpha)

    def text(
        self,
        x: float,
        y: float,
        string: str,
        color: Color = "white",
        size: float = 16,
        background: Color | None = None,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Write text with its top left corner at (x, y), on a filled box if `background` is given.

        `size` is the font's size in pixels.
        """
        if not string or not finite(x, y, size) or size <= 0:
            return
        left, top = math.floor(clamp(x) + 0.5), math.floor(clamp(y) + 0.5)
        font = load_font(float(size))
        probe = ImageDraw.Draw(Image.new("L", (1, 1)))
        box = probe.textbbox((0, 0), string, font=font)
        right, bottom = math.ceil(box[2]), math.ceil(box[3])
        pad = max(1, round(size / 8)) if background is not None else 0
        if background is not None:
            shape = rectangle(
                left - pad - 0.5, top - pad - 0.5, left + right + pad, top + bottom + pad
            )
            self._polygons([shape], [], background, alpha)
        # Only the part inside the picture is rendered.
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + right, self.width), min(top + bottom, self.height)
        if x0 < x1 and y0 < y1:
            image = Image.new("L", (x1 - x0, y1 - y0))
            ImageDraw.Draw(image).text((left - x0, top - y0), string, fill=255, font=font)
            self._blend(coverage(image), x0, y0, color, alpha)

    def _ring(
        self,
        x: float,
        y: float,
        major: float,
        minor: float,
        angle: float,
        color: Color,
        width: float | None,
        alpha: float,
    ) -> None:
        """An ellipse: filled (`width` None) or its outline."""
        half = 0.0 if width is None else width / 2
        if not finite(x, y, major, minor, angle, half) or major < 0 or minor < 0:
            return
        outer = ellipse_outline(x, y, major + half, minor + half, angle)
        holes = []
        if width is not None and min(major, minor) > half:
            holes = [ellipse_outline(x, y, major - half, minor - half, angle)]
        self._polygons([outer], holes, color, alpha)

    def _polygons(
        self, shapes: list[NDArray[Any]], holes: list[NDArray[Any]], color: Color, alpha: float
    ) -> None:
        """Fill the union of `shapes` minus `holes` (each N×2 corners)."""
        corners = np.clip(np.concatenate(shapes), -FAR, FAR)
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        x1, y1 = (
            np.minimum(np.ceil(corners.max(axis=0)), (self.width - 1, self.height - 1)).astype(int)
            + 1
        )
        if x0 >= x1 or y0 >= y1:
            return
        scale = oversampling((x1 - x0) * (y1 - y0))
        image = Image.new("L", ((x1 - x0) * scale, (y1 - y0) * scale))
        draw = ImageDraw.Draw(image)
        for fill, outlines in ((255, shapes), (0, holes)):
            for outline in outlines:
                fine = (np.clip(outline, -FAR, FAR) - (x0, y0) + 0.5) * scale - 0.5
                # Pillow also fills the pixels its outline runs through: half a fine pixel too much
                # on every side.
                fine -= np.clip(fine - (fine.min(axis=0) + fine.max(axis=0)) / 2, -0.5, 0.5)
                # ... and would cut off fractions.
                draw.polygon([(int(px), int(py)) for px, py in np.rint(fine)], fill=fill)
        self._blend(
            coverage(image.reduce(scale) if scale > 1 else image), int(x0), int(y0), color, alpha
        )

    def _blend(
        self, cover: NDArray[np.float32], x0: int, y0: int, color: Color, alpha: float
    ) -> None:
        """Mix the colour into all planes.

        `cover` (0..1) lies inside the picture, its top left corner at (x0, y0).
        """
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha!r}; expected a number from 0 to 1")
        components = rgb_to_yuv(color, self.matrix, self.full_range, self.bit_depth)
        cover = cover * np.float32(alpha)
        height, width = cover.shape
        mix(self._luma[y0 : y0 + height, x0 : x0 + width], cover, components[0])
        if not self._chroma:
            return
        # Widen to whole chroma cells; cells at the right and bottom edge may have fewer luma
        # samples.
        step_y, step_x = self._step_y, self._step_x
        row, column = y0 // step_y, x0 // step_x
        rows = -(-(y0 + height) // step_y) - row
        columns = -(-(x0 + width) // step_x) - column
        cells = np.zeros((rows * step_y, columns * step_x), np.float32)
        top, left = y0 - row * step_y, x0 - column * step_x
        cells[top : top + height, left : left + width] = cover
        total = cells.reshape(rows, step_y, columns, step_x).sum(axis=(1, 3))
        inside_y = np.minimum(self.height - (row + np.arange(rows)) * step_y, step_y)
        inside_x = np.minimum(self.width - (column + np.arange(columns)) * step_x, step_x)
        mean = total / np.outer(inside_y, inside_x).astype(np.float32)
        for plane, component in zip(self._chroma, components[1:], strict=True):
            mix(plane[row : row + rows, column : column + columns], mean, component)


def rgb_to_yuv(color: Color, matrix: str, full_range: bool, bit_depth: int) -> tuple[int, int, int]:
    """Convert an RGB colour to integer Y, U, V samples.

    The formulas are those of ITU-T H.273, 8.3 (equations for `VideoFullRangeFlag` 0 and 1).
    """
    rgb = ImageColor.getrgb(color)[:3] if isinstance(color, str) else tuple(color)
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
    for step in (1, 2, 4):
        if -(-luma // step) == chroma:
            return step
    raise ValueError(
        f"chroma {side} is {chroma} for luma {side} {luma}; expected a ratio of 1, 2 or 4"
    )


def mix(samples: NDArray[Any], cover: NDArray[np.float32], value: int) -> None:
    """Move the covered samples towards `value`, in place."""
    touched = cover > 0
    old = samples[touched].astype(np.float32)
    samples[touched] = np.rint(old + cover[touched] * (value - old)).astype(samples.dtype)


def coverage(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def oversampling(pixels: int) -> int:
    """Fine pixels per pixel and side: smooth edges, but bounded memory for large shapes."""
    return 4 if pixels <= 400 * 400 else 2 if pixels <= 1600 * 1600 else 1


def ellipse_outline(x: float, y: float, major: float, minor: float, angle: float) -> NDArray[Any]:
    corners = 16 + 2 * math.isqrt(int(min(max(major, minor), 10_000)) * 16)
    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    along, across = major * np.cos(turn), minor * np.sin(turn)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], axis=1)


def segment_outline(a: Point, b: Point, width: float) -> NDArray[Any]:
    """The four corners of a line from `a` to `b`."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    ux, uy = (dx / length, dy / length) if length else (1.0, 0.0)
    half = width / 2
    nx, ny = -uy * half, ux * half
    return np.array(
        [
            (a[0] + nx, a[1] + ny),
            (b[0] + nx, b[1] + ny),
            (b[0] - nx, b[1] - ny),
            (a[0] - nx, a[1] - ny),
        ]
    )


def rectangle(x0: float, y0: float, x1: float, y1: float) -> NDArray[Any]:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)


def clamp(value: float) -> float:
    return min(max(value, -FAR), FAR)


@lru_cache(maxsize=16)
def load_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
