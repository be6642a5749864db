"""Frame rates: as a file states them, whether they are plausible, and from time stamps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

DEFAULT_RATE = 25
# Plausible rates: at least a frame per hour, and less than the slowest clock that files state as a
# rate (24000, 30000, 60000, 90000 or 1000000 ticks per second). Cameras that are as fast do not
# write streams without time stamps.
_SLOWEST, _FASTEST = Fraction(1, 3600), 24_000
# Streams without a container: their demuxer computes time stamps, by default for 25 frames per
# second. Those in the first line have none, or none that identify frames.
_UNTIMED = ("h264", "hevc", "vvc", "evc", "m4v", "mpegvideo", "obu", "cavsvideo", "avs2", "avs3")
_STEADY = ("dirac", "dnxhd", "h261", "h263", "mjpeg", "vc1", "ingenient", "apv")
# Formats in which a frame's time is its number over the stated rate.
_COUNTING = ("avi", "yuv4mpegpipe")
# How far a stated rate may be from that of the times, as a share.
_CLOSE = 0.05
# Steps between times that are this many times longer than most are gaps.
_GAP = 4
_FINEST = 1_000_000


def is_raw(format_name: str) -> bool:
    """Whether a format is a stream without container, so without times.

    Args:
        format_name: FFmpeg's name of the container.
    """
    return format_name in _UNTIMED or format_name in _STEADY or format_name.endswith("_pipe")


def is_counting(format_name: str) -> bool:
    """Whether a format stores frame numbers and a rate instead of time stamps."""
    return format_name in _COUNTING


def is_believable(rate: Fraction | None) -> bool:
    """Whether a camera can record this many frames per second."""
    return rate is not None and _SLOWEST <= rate < _FASTEST


def is_untimed(format_name: str) -> bool:
    """Whether the time stamps that a demuxer computes for a raw format do not identify frames."""
    return format_name in _UNTIMED


def stated_rate(stream: Any, *, own: bool) -> tuple[Fraction, str]:
    """Frames per second for frames without times, and a warning where the rate is assumed.

    Args:
        stream: video stream.
        own: whether the coded stream states the rate, not the container.
    """
    coded = stream.codec_context.framerate
    stated = coded if own else stream.average_rate or stream.guessed_rate or coded
    if is_believable(stated):
        return Fraction(stated), ""
    assumed = f"{DEFAULT_RATE} are assumed"
    if not stated:
        return Fraction(DEFAULT_RATE), f"it states no frames per second; {assumed}"
    warning = f"it states {float(stated):.8g} frames per second, which no camera has"
    return Fraction(DEFAULT_RATE), f"{warning}; {assumed}"


def rate_of_times(seconds: Sequence[Fraction]) -> Fraction | None:
    """Frames per second by the median step between times in seconds, in any order."""
    ordered = sorted(seconds)
    steps = sorted(b - a for a, b in itertools.pairwise(ordered))
    if not steps or steps[0] <= 0:
        return None
    return 1 / steps[len(steps) // 2]


def average_rate(stream: Any, pts: np.ndarray, last_duration: int) -> Fraction:
    """Average frames per second of a stream with times.

    The rate that the container states, if the time stamps agree; else theirs, without gaps.

    Args:
        stream: video stream.
        pts: int64, of all frames, ascending.
        last_duration: of the last frame in units of the time base; 0 if not known.
    """
    time_base = Fraction(stream.time_base)
    stated = stream.average_rate or stream.guessed_rate
    if len(pts) < 2 or pts[0] == pts[-1]:
        if is_believable(stated):
            return Fraction(stated)
        alone = 1 / (last_duration * time_base) if last_duration else None
        return alone if alone and is_believable(alone) else Fraction(DEFAULT_RATE)
    span = int(pts[-1]) - int(pts[0])
    mean = (len(pts) - 1) / (span * time_base)
    steps = np.diff(pts.astype(np.float64))
    median = np.median(steps)
    usual = steps[(steps <= _GAP * median) & (steps >= median / _GAP)] if median else steps
    without_gaps = len(usual) / (int(usual.sum()) * time_base)
    # Times are rounded to the time base.
    close = _CLOSE + 2 / span
    if stated and any(abs(stated / rate - 1) <= close for rate in (mean, without_gaps)):
        return Fraction(stated)
    return without_gaps.limit_denominator(_FINEST)
