"""Connected regions of a picture: found, cleaned, measured, and split where animals touch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

# A blob below this share of a typical animal is a speck.
SPECK_SHARE = 0.2


@dataclass(frozen=True)
class Blob:
    """A connected region: the rows and columns of its pixels."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def area(self) -> int:
        return len(self.rows)

    def moments(self) -> tuple[float, float, float, float, float]:
        """Mean x and y, then the variances of x and y and their covariance."""
        x, y = float(self.columns.mean()), float(self.rows.mean())
        dx, dy = self.columns - x, self.rows - y
        return (
            x,
            y,
            float(dx @ dx) / self.area,
            float(dy @ dy) / self.area,
            float(dx @ dy) / self.area,
        )


def largest_first(blobs: list[Blob]) -> list[Blob]:
    """Sorted by area; among equals the one further up, then further left, comes first."""
    return sorted(blobs, key=lambda blob: (-blob.area, int(blob.rows[0]), int(blob.columns[0])))


def find_blobs(mask: NDArray[np.bool_], min_area: float, cleaning: int, most: int) -> list[Blob]:
    """8-connected regions of at least `min_area` pixels, largest first, after an opening.

    Only the `most` largest before the opening are looked at. Works on runs of foreground pixels:
    the empty part of the picture costs one fast scan.
    """
    width = mask.shape[1]
    pixels = np.flatnonzero(mask)
    if not pixels.size:
        return []
    first = np.empty(len(pixels), bool)
    first[0] = True
    np.not_equal(pixels[1:], pixels[:-1] + 1, out=first[1:])
    first |= pixels % width == 0
    start = np.flatnonzero(first)
    length = np.diff(start, append=len(pixels))
    row, left = np.divmod(pixels[start], width)
    label = label_runs(row, left, left + length, width)
    area = np.bincount(label, weights=length)
    chosen = np.flatnonzero(area >= max(min_area, 1))
    chosen = chosen[np.argsort(-area[chosen], kind="stable")][:most]
    blobs: list[Blob] = []
    for index in chosen:
        mine = np.flatnonzero(label == index)
        count = length[mine]
        rows = np.repeat(row[mine], count)
        steps = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        columns = np.repeat(left[mine], count) + steps
        blobs += clean(Blob(rows, columns), cleaning, min_area)
    return largest_first(blobs)


def label_runs(
    row: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], width: int
) -> NDArray[np.int32]:
    """Number the 8-connected components of runs (columns left..right-1, in raster order)."""
    # A run touches those of the next row that end at or after its left and begin at or before its
    # right.
    stride = width + 2
    ends, begins = row * stride + right, row * stride + left
    low = np.searchsorted(ends, (row + 1) * stride + left, side="left")
    high = np.searchsorted(begins, (row + 1) * stride + right, side="right")
    count = np.maximum(high - low, 0)
    offset = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    below = np.arange(offset[-1], dtype=np.int32) + np.repeat(low - offset[:-1], count)
    links = sparse.csr_array(
        (np.ones(len(below)), below.astype(np.int32), offset), (len(row), len(row))
    )
    return np.asarray(connected_components(links, directed=False)[1])


def clean(blob: Blob, radius: int, min_area: float) -> list[Blob]:
    """Opening with a square of side 2 * radius + 1; without a thin bridge, several blobs remain."""
    if radius == 0:
        return [blob]
    top, left = int(blob.rows.min()) - radius, int(blob.columns.min()) - radius
    shape = (int(blob.rows.max()) - top + radius + 1, int(blob.columns.max()) - left + radius + 1)
    crop = np.zeros(shape, np.uint8)
    crop[blob.rows - top, blob.columns - left] = 1
    for combine in (np.minimum, np.maximum):
        for _ in range(radius):
            inner = combine(combine(crop[:-2], crop[1:-1]), crop[2:])
            crop[1:-1, 1:-1] = combine(combine(inner[:, :-2], inner[:, 1:-1]), inner[:, 2:])
    labels, count = ndimage.label(crop, structure=np.ones((3, 3), int))
    rows, columns = np.nonzero(labels)
    if count == 1:
        parts = [Blob(rows + top, columns + left)]
    else:
        owner = labels[rows, columns]
        parts = [
            Blob(rows[owner == i] + top, columns[owner == i] + left) for i in range(1, count + 1)
        ]
    return [part for part in parts if part.area >= max(min_area, 1)]


def split_blob(blob: Blob, parts: int) -> list[Blob]:
    """Separate touching animals by a mixture of `parts` Gaussians of equal weight.

    Each pixel goes to the Gaussian under which it is most likely. The fit starts from slices
    along the blob's longer and shorter axis and keeps the likelier result.
    """
    points = np.stack([blob.columns, blob.rows], axis=1).astype(np.float64)
    points -= points.mean(axis=0)
    thin = points[:: max(1, len(points) // 500)]
    _, axes = np.linalg.eigh(thin.T @ thin)
    fits = []
    for axis in (axes[:, 1], axes[:, 0]):
        along = thin @ axis
        cuts = np.quantile(along, np.arange(1, parts) / parts)
        slices = np.searchsorted(cuts, along)
        fits.append(fit_gaussians(thin, np.eye(parts)[slices]))
    _, means, covariances = max(fits, key=lambda fit: fit[0])
    owner = log_densities(points, means, covariances).argmax(axis=1)
    pieces = [Blob(blob.rows[owner == i], blob.columns[owner == i]) for i in range(parts)]
    return largest_first([piece for piece in pieces if piece.area])


def fit_gaussians(
    points: NDArray[np.float64], share: NDArray[np.float64], rounds: int = 25
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Expectation-maximisation; returns the log-likelihood, means (K×2) and covariances (K×2×2)."""
    likelihood = -math.inf
    for _ in range(rounds):
        weight = share.sum(axis=0) + 1e-9
        means = share.T @ points / weight[:, None]
        apart = points[:, None] - means
        covariances = np.einsum("nk,nki,nkj->kij", share, apart, apart) / weight[:, None, None]
        covariances += np.eye(2) / 12  # a pixel is not a point
        logs = log_densities(points, means, covariances)
        peak = logs.max(axis=1, keepdims=True)
        share = np.exp(logs - peak)
        total = share.sum(axis=1, keepdims=True)
        share /= total
        before, likelihood = likelihood, float((np.log(total) + peak).mean())
        if likelihood - before < 1e-4:
            break
    return likelihood, means, covariances


def log_densities(
    points: NDArray[np.float64], means: NDArray[np.float64], covariances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log of each Gaussian's density at each point, without constants (N×K)."""
    apart = points[:, None] - means
    inverse = np.linalg.inv(covariances)
    xx, xy, yy = inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]
    dx, dy = apart[..., 0], apart[..., 1]
    distance = xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy
    return np.asarray(-0.5 * (distance + np.log(np.linalg.det(covariances))))


def typical_area(frames: Sequence[list[Blob]], n_animals: int) -> float:
    """One animal's usual area (pixels) in the frames that show the most animals; 0 if none does."""
    seen = [np.array([blob.area for blob in blobs[:n_animals]]) for blobs in frames if blobs]
    if not seen:
        return 0.0
    smallest = SPECK_SHARE * np.quantile([areas[0] for areas in seen], 0.9)
    seen = [areas[areas >= smallest] for areas in seen]
    counts = np.array([len(areas) for areas in seen])
    # The largest number of blobs that at least a tenth of the frames show.
    usual = max((n for n in range(1, n_animals + 1) if (counts >= n).mean() >= 0.1), default=0)
    fitting = [areas for areas, count in zip(seen, counts, strict=True) if count == usual > 0]
    return float(np.median(np.concatenate(fitting))) if fitting else 0.0
