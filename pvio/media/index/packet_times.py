"""Time stamps of packets that lack them, or whose time stamps are not possible."""

from __future__ import annotations

import bisect
from fractions import Fraction
from typing import Any

import numpy as np

from pvio.media.timing.rates import (
    DEFAULT_RATE,
    is_believable,
)

NO_TIME = np.iinfo(np.int64).min


def nominal_rate(stream: Any) -> Fraction:
    """Stated frames per second of a stream, if plausible; else the default rate."""
    options = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate)
    return Fraction(next(filter(is_believable, options), None) or DEFAULT_RATE)


def distinct_times(pts: np.ndarray, dts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Distinct time stamps for frames that are counted, in any order.

    Wrong presentation times may repeat others. Decoding times replace them if these are distinct,
    or else steady times, if the video is about as long as that.

    Args:
        pts: int64, one per frame.
        dts: int64, one per frame.
        step: between two frames.
    """
    for times in (pts, dts):
        if len(np.unique(times)) == len(times) and not (times == NO_TIME).any():
            return times
    last = round((len(pts) - 1) * step)
    if abs(int(pts.max() - pts.min()) - last) > 2 * step:
        return pts
    return int(pts.min()) + np.array([round(n * step) for n in range(len(pts))], np.int64)


def frame_rate(
    stated: Fraction | int, n_packets: int, pts: np.ndarray, time_base: Fraction
) -> Fraction:
    """A stated rate, or its share where it counts packets that are no frames.

    Some containers count fields and hidden frames, others do not; the time stamps decide.

    Args:
        stated: frames, or packets, per second.
        n_packets: of the stream.
        pts: of its frames; `numpy.iinfo(int64).min` where there is none.
        time_base: seconds per unit of `pts`.
    """
    known = pts[pts != NO_TIME]
    shared = Fraction(stated) * len(pts) / max(n_packets, 1)
    if len(pts) in (0, n_packets) or len(known) < 2 or known.max() == known.min():
        return Fraction(stated)
    by_times = (len(known) - 1) / (int(known.max() - known.min()) * Fraction(time_base))
    is_shared = abs(shared - by_times) < min(abs(stated - by_times), by_times / 10)
    return shared if is_shared else Fraction(stated)


def interpolate_missing_pts(pts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Time stamps for packets that have none.

    Program streams give times to some packets only; of others single ones may be lost, and
    Matroska has none before 0. At a steady rate, packets without time
    stamps get the free places between the others, after them, and before the first one. At an
    uneven rate, each gets the free place next to that of the packet before.

    Args:
        pts: int64, in decoding order; `numpy.iinfo(int64).min` where there is none.
        step: between two frames.
    """
    known = np.flatnonzero(pts != NO_TIME)
    if len(known) == 0:
        return np.array([round(number * step) for number in range(len(pts))], np.int64)
    filled = pts.copy()
    base = int(pts[known[0]])
    grid = np.round((pts[known] - base) / float(step)).astype(np.int64)
    off = np.abs(pts[known] - base - grid * float(step)).max()
    n_behind = len(pts) - int(grid.max() - grid.min()) - 1
    if off < step / 4 and n_behind >= 0 and len(np.unique(grid)) == len(grid):
        first = int(grid.min()) - min(int(known[0]), n_behind)
        places = np.setdiff1d(np.arange(first, first + len(pts)), grid)
        filled[pts == NO_TIME] = [base + round(int(place) * step) for place in places]
        return filled
    taken = sorted(pts[known].tolist())
    for number in np.flatnonzero(pts == NO_TIME).tolist():
        near = int(known[max(0, int(np.searchsorted(known, number)) - 1)])
        wanted = number - near
        for away in range(len(pts) + 1):
            options = [int(pts[near]) + round((wanted + k) * step) for k in {away, -away}]
            free = [place for place in options if _is_free(place, taken, step)]
            if free:
                filled[number] = free[0]
                bisect.insort(taken, free[0])
                break
    return filled


def _is_free(place: int, taken: list[int], step: float | Fraction) -> bool:
    at = bisect.bisect(taken, place)
    return min(abs(place - other) for other in taken[max(0, at - 1) : at + 1]) > step / 2


def find_restarts(dts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Numbers of the packets at which the clock starts again, as where files were joined."""
    numbers = np.flatnonzero(dts != NO_TIME)
    jumps = np.diff(dts[numbers]) < -10 * float(step)
    return numbers[1:][jumps]


def join_clocks(pts: np.ndarray, restarts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Shift the parts between restarts so that each starts one step after the part before."""
    parts = np.split(pts, restarts)
    result = [parts[0]]
    for part in parts[1:]:
        offset = int(result[-1].max()) + round(step) - int(part.min())
        result.append(part + offset)
    return np.concatenate(result)


def is_ambiguous(pts: np.ndarray) -> bool:
    """Whether frames share a time and are reordered, so that their order is not known."""
    shared = len(np.unique(pts)) < len(pts)
    return shared and bool((np.diff(pts) < 0).any())
