"""Outlines of shapes, and the share of each pixel that they cover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pvio.media.draw.compositing import Cover

Point = tuple[float, float]
# Far outside any frame, yet small enough for Pillow's integer arithmetic.
FAR = 1e6
# Large shapes are blended tile by tile, since most of a long line's tiles are empty. A multiple of
# the chroma cells' sides, so that no cell is in two tiles.
TILE = 128


def polygon_coverage(
    outlines: Sequence[NDArray[Any]], levels: Sequence[int], size: tuple[int, int]
) -> Iterator[Cover]:
    """Coverage of outlines, painted one over the other with smooth edges, inside the frame.

    Args:
        outlines: at least one, each corners×2 (x, y).
        levels: one per outline, 0..255 for a share of 0..1.
        size: (height, width) of the frame.
    """
    height, width = size
    counts = [len(outline) for outline in outlines]
    starts = [0, *accumulate(counts[:-1])]
    corners = np.minimum(np.maximum(np.concatenate(outlines), -FAR), FAR)
    lows, highs = np.minimum.reduceat(corners, starts), np.maximum.reduceat(corners, starts)
    (low_x, low_y), (high_x, high_y) = np.minimum.reduce(lows), np.maximum.reduce(highs)
    x0, y0 = max(math.floor(low_x), 0), max(math.floor(low_y), 0)
    x1, y1 = min(math.ceil(high_x), width - 1) + 1, min(math.ceil(high_y), height - 1) + 1
    if x0 >= x1 or y0 >= y1:
        return
    scale = oversampling((x1 - x0) * (y1 - y0))
    fine = fine_pixels(np.concatenate([corners, lows, highs]), x0, y0, scale)
    middles = (fine[-2 * len(counts) : -len(counts)] + fine[-len(counts) :]) / 2
    fine = whole_fine_pixels(fine[: len(corners)], np.repeat(middles, counts, axis=0))
    image = Image.new("L", ((x1 - x0) * scale, (y1 - y0) * scale))
    draw = ImageDraw.Draw(image)
    flat = fine.ravel().tolist()
    for start, count, level in zip(starts, counts, levels, strict=True):
        draw.polygon(flat[2 * start : 2 * (start + count)], fill=level)
    if (x1 - x0) * (y1 - y0) <= TILE * TILE:
        yield Cover(share_of(image, scale), x0, y0)
        return
    for left, top, right, bottom in tiles(x0, y0, x1, y1):
        box = ((left - x0) * scale, (top - y0) * scale, (right - x0) * scale, (bottom - y0) * scale)
        part = image.crop(box)
        if part.getbbox():
            yield Cover(share_of(part, scale), left, top)


def fine_pixels(points: NDArray[Any], x0: int, y0: int, scale: int) -> NDArray[Any]:
    """Points (n×2) in fine pixels, `scale` per pixel, counted from the pixel (x0, y0)."""
    fine: NDArray[Any] = points - np.array((x0, y0), float)
    fine += 0.5
    fine *= scale
    fine -= 0.5
    return fine


def whole_fine_pixels(fine: NDArray[Any], middles: NDArray[Any]) -> NDArray[Any]:
    """Corners as Pillow wants them, given the middles of their outlines (n×2 both).

    Pillow also fills the pixels its outline runs through, which is half a fine pixel too much on
    every side, and would cut off fractions.
    """
    excess = fine - middles
    np.minimum(np.maximum(excess, -0.5, out=excess), 0.5, out=excess)
    return np.asarray(np.rint(fine - excess))


def tiles(x0: int, y0: int, x1: int, y1: int) -> Iterator[tuple[int, int, int, int]]:
    """The parts (left, top, right, bottom) of a rectangle in each tile of the frame."""
    for top in range(y0 - y0 % TILE, y1, TILE):
        for left in range(x0 - x0 % TILE, x1, TILE):
            yield max(left, x0), max(top, y0), min(left + TILE, x1), min(top + TILE, y1)


def rectangle_coverage(
    x0: float, y0: float, x1: float, y1: float, size: tuple[int, int]
) -> Iterator[Cover]:
    """As `polygon_coverage`, for the rectangle [x0, x1] × [y0, y1]; without rasterizing."""
    height, width = size
    (low_x, high_x), (low_y, high_y) = (
        sorted((clamp(x0), clamp(x1))),
        sorted((clamp(y0), clamp(y1))),
    )
    left, top = max(math.floor(low_x), 0), max(math.floor(low_y), 0)
    right, bottom = min(math.ceil(high_x), width - 1) + 1, min(math.ceil(high_y), height - 1) + 1
    if left >= right or top >= bottom:
        return
    scale = oversampling((right - left) * (bottom - top))
    corners = fine_pixels(np.array([(low_x, low_y), (high_x, high_y)]), left, top, scale)
    first, last = whole_fine_pixels(corners, corners.mean(axis=0)).astype(int)
    columns = fine_pixels_inside(first[0], last[0], right - left, scale)
    rows = fine_pixels_inside(first[1], last[1], bottom - top, scale)
    # Rounded as Pillow does when it reduces an image.
    level = (255 * rows[:, None] * columns + scale * scale // 2) // (scale * scale)
    yield Cover(level.astype(np.float32) / np.float32(255), left, top)


def fine_pixels_inside(first: int, last: int, n: int, scale: int) -> NDArray[np.int32]:
    """The number of fine pixels of first..last in each of n pixels."""
    starts = np.arange(0, n * scale, scale, dtype=np.int32)
    inside = np.minimum(last + 1, starts + scale) - np.maximum(first, starts)
    return np.asarray(np.maximum(inside, 0), np.int32)


def oversampling(pixels: int) -> int:
    """Fine pixels per pixel and side: smooth edges, but bounded memory for large shapes."""
    return 4 if pixels <= 400 * 400 else 2 if pixels <= 1600 * 1600 else 1


def share_of(image: Image.Image, scale: int) -> NDArray[np.float32]:
    """The shares (0..1) of an 8-bit image with `scale` fine pixels per pixel and side."""
    levels = np.asarray(image.reduce(scale) if scale > 1 else image)
    share: NDArray[np.float32] = np.divide(levels, 255, dtype=np.float32)
    return share


def ellipse_outline(x: float, y: float, major: float, minor: float, angle: float) -> NDArray[Any]:
    """The corners (n×2) of an ellipse with these semi-axes."""
    n = 16 + 2 * math.isqrt(int(min(max(major, minor), 10_000)) * 16)
    along, across = unit_circle(n)
    along, across = major * along, minor * across
    cos, sin = math.cos(angle), math.sin(angle)
    outline = np.empty((n, 2))
    outline[:, 0] = x + along * cos - across * sin
    outline[:, 1] = y + along * sin + across * cos
    return outline


@lru_cache(maxsize=256)
def unit_circle(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Coordinates (x, y) of n points on a circle of radius 1."""
    turn = np.linspace(0, 2 * math.pi, n, endpoint=False)
    return np.cos(turn), np.sin(turn)


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


def capsule_outlines(starts: NDArray[Any], ends: NDArray[Any], width: float) -> NDArray[Any]:
    """The corners (n×corners×2) of n lines with round ends, from `starts` to `ends` (n×2)."""
    delta = ends - starts
    angle = np.arctan2(delta[:, 1], delta[:, 0])[:, None]
    half = width / 2
    # Half a circle around the end, half a circle around the start.
    turn = np.linspace(-math.pi / 2, math.pi / 2, 5 + math.isqrt(int(min(half, 10_000)) * 16))
    turn = np.concatenate([turn, turn + math.pi]) + angle
    centres = np.repeat(np.stack([ends, starts], axis=1), turn.shape[1] // 2, axis=1)
    return np.asarray(centres + half * np.stack([np.cos(turn), np.sin(turn)], axis=2))


def finite(*values: float) -> bool:
    """Whether no value is NaN or infinite."""
    return all(map(math.isfinite, values))


def clamp(value: float) -> float:
    """The value limited to -FAR..FAR."""
    return min(max(value, -FAR), FAR)
