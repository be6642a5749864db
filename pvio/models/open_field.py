"""The built-in model: find a few animals in an open field, without training or weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pvio.models.blobs import (
    SPECK_SHARE,
    Blob,
    find_blobs,
    largest_first,
    split_blob,
    typical_area,
)

COLUMNS = ("x", "y", "area", "orientation")
# Colours that differ also for colour-blind readers (Okabe and Ito 2008).
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")
# A blob above this share of a typical animal may be several animals.
SPLIT_SHARE = 1.5
# Blobs smaller than this (pixels) would not survive the cleaning.
SMALLEST_TO_CLEAN = 60
# Gray levels; compression noise alone makes differences of a few.
LEAST_CONTRAST = 6.0


class SampledVideo(Protocol):
    """What `prepare` needs to know about a video."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def input_height(self) -> int: ...
    @property
    def input_width(self) -> int: ...

    def sample(self, n: int) -> Tensor:
        """Up to n frames spread evenly over the video: uint8, N×C×input_height×input_width."""
        ...


class OpenFieldTracker:
    """Find the `n_animals` largest things that differ from the background.

    `prepare` looks at a sample of the video and fixes the background, the polarity, the threshold
    and the typical animal's area; afterwards every frame is treated alone and alike. Animals that
    touch are separated by fitting one Gaussian per animal to their common blob. Animals have no
    identity: they are sorted by area in every frame.

    Parameters
    ----------
    n_animals
        How many animals there are, 1 or more.
    background
        "median": the camera and the light are steady and the animals move; each pixel's median
        over the sample is subtracted. "none": the camera moves, or an animal stays in one place
        for more than half the video; animals must then be the brightest or the darkest things of
        their size in the picture.
    polarity
        Whether animals are "bright" or "dark" against the background; "auto" decides once per
        video.
    threshold
        With background "median", the least difference from the background in gray levels; with
        "none", the gray level that separates animals from the background; 0..255. "auto" chooses
        once per video.
    min_area
        The smallest blob that counts, in pixels² of the source picture. "auto": a fifth of the
        typical animal.
    n_background_frames
        Size of the sample, 3..255.
    cleaning
        Radius in pixels (of the model's input) of the opening that removes legs and bridges,
        0..10; 0 switches it off. "auto": 1, or 0 if animals are tiny.

    Raises
    ------
    ValueError
        If an argument has a value that is not allowed.
    """

    def __init__(
        self,
        n_animals: int = 2,
        *,
        background: Literal["median", "none"] = "median",
        polarity: Literal["auto", "bright", "dark"] = "auto",
        threshold: float | Literal["auto"] = "auto",
        min_area: float | Literal["auto"] = "auto",
        n_background_frames: int = 51,
        cleaning: int | Literal["auto"] = "auto",
    ) -> None:
        check_integer("n_animals", n_animals, 1, 1000)
        check_choice("background", background, ("median", "none"))
        check_choice("polarity", polarity, ("auto", "bright", "dark"))
        check_number_or_auto("threshold", threshold, 0, 255)
        check_number_or_auto("min_area", min_area, 0, math.inf)
        check_integer("n_background_frames", n_background_frames, 3, 255)
        if cleaning != "auto":
            check_integer("cleaning", cleaning, 0, 10, auto=True)
        self.n_animals = n_animals
        self.background = background
        self.polarity = polarity
        self.threshold = threshold
        self.min_area = min_area
        self.n_background_frames = n_background_frames
        self.cleaning = cleaning
        self._limit: Tensor | None = None

    def prepare(self, video: SampledVideo) -> None:
        """Fix everything that depends on the video as a whole; deterministic."""
        sample = to_gray(video.sample(self.n_background_frames)).cpu().numpy()
        if len(sample) == 0:  # damaged all over: whatever picture comes shows nothing to compare
            sample = np.zeros((1, video.input_height, video.input_width), np.uint8)
        self._scale = (video.width / video.input_width, video.height / video.input_height)
        if self.background == "median":
            floor = median_picture(sample)
        else:
            levels = np.cumsum(count_differences(sample, np.uint8(0))[255:])
            floor = np.full(sample.shape[1:], np.searchsorted(levels, levels[-1] / 2), np.uint8)
        difference = count_differences(sample, floor)
        self._bright = self.polarity == "bright" or (
            self.polarity == "auto" and stands_out(difference) >= stands_out(difference[::-1])
        )
        counts = difference[255:] if self._bright else difference[255::-1]
        self._set_limit(floor, counts)
        self._measure_animals(sample)

    def __call__(self, frames: Tensor) -> dict[str, Tensor]:
        """Track a batch.

        Parameters
        ----------
        frames
            B×C×H×W, C = 1 (luma) or 3 (RGB), uint8 or floating point in 0..1, on any device; H×W
            as in the sample.

        Returns
        -------
        dict
            Float32 tensors B×n_animals on the CPU, animals sorted by area, largest first, NaN
            where there is none: `x`, `y` (centroid, pixels of the source picture, pixel centres at
            integers), `area` (source pixels²), `orientation` (of the major axis, radians from +x
            towards +y (down), in (-pi/2, pi/2]).

        Raises
        ------
        RuntimeError
            If `prepare` was not called before.
        ValueError
            If the frames do not have the sample's size.
        """
        if self._limit is None:
            raise RuntimeError(
                "OpenFieldTracker knows no video yet; call prepare(video) before the first frame"
            )
        if frames.ndim != 4 or frames.shape[-2:] != self._limit.shape:
            raise ValueError(
                f"frames are {tuple(frames.shape)}; "
                f"expected B×C×{'×'.join(map(str, self._limit.shape))} as in the video's sample"
            )
        table = np.full((len(COLUMNS), len(frames), self.n_animals), np.nan)
        for row, frame in enumerate(frames):
            for column, blob in enumerate(self._animals(self._foreground(frame))):
                table[:, row, column] = self._measure(blob)
        return {
            name: torch.from_numpy(values.astype(np.float32))
            for name, values in zip(COLUMNS, table, strict=True)
        }

    def draw(self, frame: Any, row: Mapping[str, Any]) -> None:
        """Draw every animal as a point, a line along its orientation and an ellipse of its area.

        `frame` is a `pvio.media.draw.Canvas`; `row` holds this model's columns for one frame. The
        area alone does not tell an animal's shape: the ellipse is drawn twice as long as wide.
        """
        thickness = max(1.0, frame.height / 400)
        animals = zip(*(np.atleast_1d(row[name]) for name in COLUMNS), strict=True)
        for index, (x, y, area, orientation) in enumerate(animals):
            if not np.isfinite(x):
                continue
            color = COLORS[index % len(COLORS)]
            minor = math.sqrt(area / (2 * math.pi))
            dx, dy = 2 * minor * math.cos(orientation), 2 * minor * math.sin(orientation)
            frame.ellipse(x, y, 2 * minor, minor, orientation, color, thickness)
            frame.line(x - dx, y - dy, x + dx, y + dy, color, thickness)
            frame.point(x, y, 2 * thickness, color)

    def _set_limit(self, floor: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        """Set the gray level each pixel must pass; `counts` counts the differences 0..255."""
        if self.threshold == "auto":
            step = max(isodata_threshold(counts), 5 * noise_level(counts), LEAST_CONTRAST)
        elif self.background == "median":
            step = float(self.threshold)
        else:
            floor, step = np.full_like(floor, round(float(self.threshold))), 0.0
        # Between two gray levels, so that uint8 and float frames give the same answer.
        step = math.floor(step) + 0.5
        limit = floor + step if self._bright else floor - step
        self._limit = torch.from_numpy(limit.astype(np.float32))
        # The same test with integers only: pixel > integer or pixel < integer; none passes a limit
        # out of range.
        whole = np.floor(limit) if self._bright else np.ceil(limit)
        self._limit_uint8 = torch.from_numpy(np.clip(whole, 0, 255).astype(np.uint8))
        self._limit_unit = self._limit / 255

    def _measure_animals(self, sample: NDArray[np.uint8]) -> None:
        """Learn the usual size of one animal from the sample."""
        self._typical, self._smallest = math.inf, 1.0
        masks = [self._foreground(torch.from_numpy(picture)[None]) for picture in sample]
        if self.cleaning == "auto":
            self._cleaning = 0
            raw = typical_area([self._blobs(mask) for mask in masks], self.n_animals)
            self._cleaning = 1 if raw >= SMALLEST_TO_CLEAN else 0
        else:
            self._cleaning = int(self.cleaning)
        typical = typical_area([self._blobs(mask) for mask in masks], self.n_animals)
        if typical:
            self._typical, self._smallest = typical, SPECK_SHARE * typical
        if self.min_area != "auto":
            self._smallest = float(self.min_area) / (self._scale[0] * self._scale[1])

    def _blobs(self, mask: NDArray[np.bool_]) -> list[Blob]:
        return find_blobs(mask, self._smallest, self._cleaning, 4 * self.n_animals + 8)

    def _foreground(self, frame: Tensor) -> NDArray[np.bool_]:
        """H×W mask of the pixels of one C×H×W frame that pass the limit."""
        gray = to_gray(frame[None])[0] if len(frame) == 3 else frame[0]
        if gray.dtype == torch.uint8:
            limit = self._limit_uint8
        else:
            gray, limit = gray.float(), self._limit_unit
        limit = limit.to(gray.device)
        mask = gray > limit if self._bright else gray < limit
        return np.asarray(mask.cpu().numpy(), dtype=np.bool_)

    def _animals(self, mask: NDArray[np.bool_]) -> list[Blob]:
        """At most n_animals blobs, largest first."""
        blobs = self._blobs(mask)
        while blobs and blobs[0].area > SPLIT_SHARE * self._typical:
            missing = self.n_animals - len(blobs)
            # With enough blobs, split only if the halves make better animals than the smallest
            # blob kept.
            if missing <= 0 and blobs[0].area / 2 <= 2 * blobs[self.n_animals - 1].area:
                break
            if missing <= 0:
                blobs, missing = blobs[: self.n_animals - 1], 1
            parts = min(max(2, round(blobs[0].area / self._typical)), missing + 1)
            pieces = split_blob(blobs[0], parts)
            if len(pieces) == 1:
                break
            blobs = largest_first(pieces + blobs[1:])
        return blobs[: self.n_animals]

    def _measure(self, blob: Blob) -> tuple[float, float, float, float]:
        """x, y, area, orientation in the source picture."""
        sx, sy = self._scale
        x, y, xx, yy, xy = blob.moments()
        angle = 0.5 * math.atan2(2 * xy * sx * sy, xx * sx * sx - yy * sy * sy)
        if angle <= -math.pi / 2:
            angle += math.pi
        return (x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5, blob.area * sx * sy, angle


def to_gray(frames: Tensor) -> Tensor:
    """N×H×W from N×C×H×W: one channel as it is, RGB as uint8 luma (BT.601 weights in 1/256)."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if frames.shape[1] != 3:
        raise ValueError(f"frames have {frames.shape[1]} channels; expected 1 (gray) or 3 (RGB)")
    if frames.dtype != torch.uint8:
        frames = (frames.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    red, green, blue = frames.to(torch.int32).unbind(1)
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).to(torch.uint8)


def median_picture(sample: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lower median of N ≤ 255 pictures (N×H×W), bit by bit from the highest, without sorting."""
    rank = (len(sample) - 1) // 2
    median = np.zeros(sample.shape[1:], np.uint8)
    below, passes = np.empty_like(median), np.empty(median.shape, bool)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        candidate = median | np.uint8(bit)
        below[:] = 0
        for picture in sample:
            below += np.less(picture, candidate, out=passes).view(np.uint8)
        np.copyto(median, candidate, where=below <= rank)
    return median


def count_differences(
    sample: NDArray[np.uint8], floor: NDArray[np.uint8] | np.uint8
) -> NDArray[np.int64]:
    """How often each difference -255..255 from the floor occurs in the sample (511 counts)."""
    counts = np.zeros(511, np.int64)
    for picture in sample:
        shifted = picture.astype(np.int16) - floor + np.int16(255)
        counts += np.bincount(shifted.ravel(), minlength=511)
    return counts


def isodata_threshold(counts: NDArray[np.int64]) -> float:
    """Level half-way between the means of its two sides (Ridler and Calvard 1978), from above.

    Unlike Otsu's it does not depend on how few pixels the animals cover. `counts[v]` counts the
    value v.
    """
    levels = np.arange(len(counts))
    threshold = levels[counts > 0].max(initial=0) / 2
    for _ in range(100):
        upper = levels > threshold
        high, low = counts[upper], counts[~upper]
        if not high.sum() or not low.sum():
            break
        means = (high @ levels[upper]) / high.sum(), (low @ levels[~upper]) / low.sum()
        previous, threshold = threshold, sum(means) / 2
        if abs(threshold - previous) < 0.25:
            break
    return float(threshold)


def noise_level(counts: NDArray[np.int64]) -> float:
    """Standard deviation of the background, from the median difference on one side (0, 1, ...)."""
    middle = np.searchsorted(np.cumsum(counts), counts.sum() / 2)
    return float(middle) / 0.6745


def stands_out(difference: NDArray[np.int64]) -> float:
    """Sum of the squared differences beyond the noise, given counts of -255..255."""
    levels = np.arange(256)
    beyond = np.clip(levels - 5 * noise_level(difference[255:]), 0, None)
    return float((difference[255:] * beyond**2).sum())


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")


def check_integer(name: str, value: object, low: int, high: int, auto: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        also = "auto or " if auto else ""
        raise ValueError(f"{name} is {value!r}; expected {also}an integer from {low} to {high}")


def check_number_or_auto(name: str, value: object, low: float, high: float) -> None:
    if value == "auto":
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
        raise ValueError(f"{name} is {value!r}; expected auto or a number from {low:g} to {high:g}")
