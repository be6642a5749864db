"""Draw on decoded YUV or gray planes in place, without converting colors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pvio.media.draw.compositing import Color, Cover, Matrix, Planes, colors_for
from pvio.media.draw.rasterize import (
    Point,
    capsule_outlines,
    clamp,
    ellipse_outline,
    finite,
    polygon_coverage,
    rectangle_coverage,
    segment_outline,
)
from pvio.media.draw.text import text_coverage


class Canvas:
    """Draw points, lines, ellipses, skeletons, trails, masks and text on one decoded frame.

    Coordinates and sizes are float pixels of the upright source frame: x to the right, y down,
    pixel centers at integers, so that the frame covers [-0.5, width - 0.5] × [-0.5, height - 0.5].
    Shapes may be partly or fully outside. A shape with a coordinate or a size that is NaN or
    infinite is not drawn. Edges are smoothed; samples a shape does not cover keep their values bit
    for bit.

    A color is three integers 0..255 (R, G, B) or a name or hex string that Pillow's `ImageColor`
    knows ("red", "#ff8800"). Drawing with any other color, or with an `alpha` that is not from 0 to
    1, raises a `ValueError`.

    Args:
        planes: one array (gray) or three (Y, U, V), each 2-D, writable, uint8, or uint16 with the
            samples in the low bits. The shapes determine the chroma subsampling (4:4:4, 4:2:2,
            4:2:0, 4:1:1, ...; odd sizes rounded up).
        bit_depth: bits per sample, 8..16.
        full_range: whether luma uses 0..2^n-1 (True) or 16..235 scaled to the bit depth (False).
        matrix: the frame's matrix coefficients, such as "bt709".

    Raises:
        ValueError: if the planes do not fit together, or an option has a value that is not
            allowed.
    """

    def __init__(
        self,
        planes: Sequence[NDArray[Any]],
        *,
        bit_depth: int = 8,
        full_range: bool = False,
        matrix: Matrix | str = "bt709",
    ) -> None:
        self._planes = Planes(planes, bit_depth, full_range, matrix)
        self.height, self.width = planes[0].shape
        self.bit_depth = bit_depth
        self.full_range = full_range
        self.matrix = matrix

    def point(
        self, x: float, y: float, radius: float = 3, color: Color = "red", *, alpha: float = 1.0
    ) -> None:
        """Draw a filled disc.

        Args:
            x: of the center, in pixels.
            y: of the center, in pixels.
            radius: at least 0, in pixels.
            color: see `Canvas`.
            alpha: opacity, 0..1.
        """
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
        """Draw a circle's outline.

        Args:
            x: of the center, in pixels.
            y: of the center, in pixels.
            radius: of the middle of the line, at least 0, in pixels.
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            alpha: opacity, 0..1.
        """
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

        Args:
            x: of the center, in pixels.
            y: of the center, in pixels.
            major: semi-axis to the middle of the line, at least 0, in pixels.
            minor: the other semi-axis, in the same way.
            angle: direction of the major axis, in radians from +x towards +y (downwards).
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            alpha: opacity, 0..1.
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
        """Draw a straight line with round ends.

        Args:
            x0: of the start, in pixels.
            y0: of the start, in pixels.
            x1: of the end, in pixels.
            y1: of the end, in pixels.
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            alpha: opacity, 0..1.
        """
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
        """Draw lines through points.

        Args:
            points: N×2 (x, y), in pixels; one with NaN leaves a gap.
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            closed: whether a line leads from the last point to the first.
            alpha: opacity, 0..1.
        """
        track = [(float(x), float(y)) for x, y in points]
        if closed and len(track) > 2:
            track.append(track[0])
        pairs = [(a, b) for a, b in pairwise(track) if finite(*a, *b)]
        if not pairs or not finite(width):
            return
        shapes = [segment_outline(a, b, width) for a, b in pairs]
        # Round joints and ends; on a thin line they cannot be seen.
        if width > 1.5:
            shapes += [
                ellipse_outline(x, y, width / 2, width / 2, 0.0) for x, y in track if finite(x, y)
            ]
        self._fill(shapes, color, alpha)

    def skeleton(
        self,
        points: Sequence[Point] | NDArray[Any],
        edges: Sequence[tuple[int, int]] | NDArray[Any],
        color: Color = "red",
        width: float = 1,
        radius: float = 3,
        *,
        edge_colors: Sequence[Color] | None = None,
        point_colors: Sequence[Color] | None = None,
        alpha: float = 1.0,
    ) -> None:
        """Draw keypoints as discs, and the lines between them.

        Args:
            points: K keypoints, K×2 (x, y), in pixels; one with NaN and its edges are left out.
            edges: E×2 pairs of indices into `points`, 0..K-1.
            color: of all edges and keypoints; see `Canvas`.
            width: thickness of the edges, in pixels.
            radius: of the discs, in pixels; 0 leaves out all discs.
            edge_colors: E colors of the edges, instead of `color`.
            point_colors: K colors of the discs, instead of `color`.
            alpha: opacity, 0..1.

        Raises:
            ValueError: if an edge names a keypoint that does not exist,
                or the number of colors is wrong.
        """
        keypoints = [(float(x), float(y)) for x, y in points]
        pairs = [(int(a), int(b)) for a, b in edges]
        for pair in pairs:
            if not all(0 <= number < len(keypoints) for number in pair):
                raise ValueError(
                    f"edge {pair} names a keypoint that is not one of 0..{len(keypoints) - 1}"
                )
        pencils = colors_for("edge_colors", edge_colors, color, len(pairs))
        brushes = colors_for("point_colors", point_colors, color, len(keypoints))
        if not finite(width, radius):
            return
        shapes: list[tuple[Color, NDArray[Any]]] = []
        for pencil, (a, b) in zip(pencils, pairs, strict=True):
            if finite(*keypoints[a], *keypoints[b]):
                start, end = np.array([keypoints[a]]), np.array([keypoints[b]])
                shapes.append((pencil, capsule_outlines(start, end, width)[0]))
        for brush, point in zip(brushes, keypoints, strict=True):
            if radius > 0 and finite(*point):
                shapes.append((brush, ellipse_outline(*point, radius, radius, 0.0)))
        # Parts of one color are one shape, so that overlaps do not show with alpha.
        for shade, run in groupby(shapes, key=lambda shape: shape[0]):
            self._fill([outline for _, outline in run], shade, alpha)

    def trail(
        self,
        points: Sequence[Point] | NDArray[Any],
        color: Color = "red",
        width: float = 1,
        *,
        alpha: float = 1.0,
    ) -> None:
        """Draw the path through past positions; it fades out evenly towards the oldest one.

        Args:
            points: N×2 (x, y), in pixels, oldest first; one with NaN leaves a gap.
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            alpha: opacity at the newest position, 0..1.
        """
        track = np.asarray(points, dtype=float).reshape(-1, 2)
        starts, ends = track[:-1], track[1:]
        whole = np.isfinite(starts).all(axis=1) & np.isfinite(ends).all(axis=1)
        if not whole.any() or not finite(width):
            return
        # Later parts cover earlier ones, so that overlaps do not show with alpha.
        levels = [round(255 * (number + 1) / len(whole)) for number in np.flatnonzero(whole)]
        shapes = list(capsule_outlines(starts[whole], ends[whole], width))
        self._paint(polygon_coverage(shapes, levels, (self.height, self.width)), color, alpha)

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
        """Draw the outline of a rectangle.

        Args:
            x0: of a corner, in pixels.
            y0: of a corner, in pixels.
            x1: of the opposite corner, in pixels.
            y1: of the opposite corner, in pixels.
            color: see `Canvas`.
            width: thickness of the line, in pixels.
            alpha: opacity, 0..1.
        """
        if not finite(x0, y0, x1, y1, width):
            return
        left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        half = width / 2
        # Four bars that do not overlap, each in its own small mask.
        for bar in (
            (left - half, top - half, right + half, top + half),
            (left - half, bottom - half, right + half, bottom + half),
            (left - half, top + half, left + half, bottom - half),
            (right - half, top + half, right + half, bottom - half),
        ):
            self._paint(rectangle_coverage(*bar, (self.height, self.width)), color, alpha)

    def mask(self, mask: NDArray[Any], color: Color = "red", alpha: float = 0.5) -> None:
        """Tint the pixels of a mask.

        Args:
            mask: height×width of the frame, bool: true where it is tinted.
            color: see `Canvas`.
            alpha: opacity, 0..1.

        Raises:
            ValueError: if the mask does not have the frame's size.
        """
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != (self.height, self.width):
            raise ValueError(f"mask is {mask.shape}; the frame is {(self.height, self.width)}")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size:
            top, left = int(rows[0]), int(columns[0])
            part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
            self._paint([Cover(part.astype(np.float32), left, top)], color, alpha)

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
        """Write text.

        Args:
            x: of the top left corner, in pixels; rounded to whole pixels.
            y: of the top left corner, in the same way.
            string: the text; it may have several lines.
            color: see `Canvas`.
            size: of the font, above 0, in pixels.
            background: color of a filled box under the text; None draws none.
            alpha: opacity, 0..1.
        """
        if not string or not finite(x, y, size) or size <= 0:
            return
        left, top = math.floor(clamp(x) + 0.5), math.floor(clamp(y) + 0.5)
        text = text_coverage(string, float(size))
        height, width = text.shape
        if background is not None:
            pad = max(1, round(size / 8))
            corners = (left - pad - 0.5, top - pad - 0.5, left + width + pad, top + height + pad)
            box = rectangle_coverage(*corners, (self.height, self.width))
            self._paint(box, background, alpha)
        rows = slice(max(-top, 0), max(self.height - top, 0))
        part = text[rows, max(-left, 0) : max(self.width - left, 0)]
        if part.any():
            share = part.astype(np.float32) / np.float32(255)
            self._paint([Cover(share, max(left, 0), max(top, 0))], color, alpha)

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
        """Draw an ellipse, filled (`width` None) or its outline."""
        half = 0.0 if width is None else width / 2
        if not finite(x, y, major, minor, angle, half) or major < 0 or minor < 0:
            return
        outer = ellipse_outline(x, y, major + half, minor + half, angle)
        shapes = [outer]
        levels = [255]
        if width is not None and min(major, minor) > half:
            shapes.append(ellipse_outline(x, y, major - half, minor - half, angle))
            levels.append(0)
        self._paint(polygon_coverage(shapes, levels, (self.height, self.width)), color, alpha)

    def _fill(self, outlines: list[NDArray[Any]], color: Color, alpha: float) -> None:
        """Fill the union of outlines (each corners×2)."""
        levels = [255] * len(outlines)
        self._paint(polygon_coverage(outlines, levels, (self.height, self.width)), color, alpha)

    def _paint(self, covers: Iterable[Cover], color: Color, alpha: float) -> None:
        for cover in covers:
            self._planes.blend(cover, color, alpha)


def mark(canvas: Canvas, status: str) -> None:
    """Mark a frame whose status is not `ok` with a red box and the status.

    Args:
        canvas: with the frame.
        status: text to write.
    """
    size = max(10, canvas.height // 20)
    canvas.box(0, 0, canvas.width - 1, canvas.height - 1, color="red", width=4)
    # In a corner that models rarely draw in.
    at = canvas.height - 10 - 1.3 * size
    canvas.text(8, at, status, color="white", size=size, background="red")
