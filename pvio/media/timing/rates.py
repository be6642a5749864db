"""Frames per second: what a file states, whether that can be, and what the times say."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

DEFAULT_RATE = 25
# What a camera can have: from a frame per hour on, and less than the slowest clock that is
# mistaken for a rate. 24000, 30000, 60000, 90000 and 1000000 count ticks, of which a frame takes
# many; cameras that record as fast do not write streams without times.
_SLOWEST, _FASTEST = Fraction(1, 3600), 24_000
# Streams without any container: their demuxer makes up times, at 25 frames per second unless it
# knows better. Those of the first line give none, or none that tells which frame a picture is.
_UNTIMED = ("h264", "hevc", "vvc", "evc", "m4v", "mpegvideo", "obu", "cavsvideo", "avs2", "avs3")
_STEADY = ("dirac", "dnxhd", "h261", "h263", "mjpeg", "vc1", "ingenient", "apv")
# Formats in which a frame's time is its number over the stated rate.
_COUNTING = ("avi", "yuv4mpegpipe")
# How far a stated rate may be from that of the times, as a share.
_CLOSE = 0.05
# Steps between times that are this many times longer than most are gaps.
_GAP = 4
_FINEST = 1_000_000


def is_raw(form: str) -> bool:
    """Whether a format is a stream without container, so without times.

    Args:
        form: FFmpeg's name of the container.
    """
    return form in _UNTIMED or form in _STEADY or form.endswith("_pipe")


def is_counting(form: str) -> bool:
    """Whether a format tells the number of a frame and a rate in place of its time."""
    return form in _COUNTING


def is_believable(rate: Fraction | None) -> bool:
    """Whether a camera can have so many frames per second."""
    return rate is not None and _SLOWEST <= rate < _FASTEST


def is_untimed(form: str) -> bool:
    """Whether what a demuxer says about times of a raw format does not tell the frames apart."""
    return form in _UNTIMED


def stated_rate(stream: Any, *, own: bool) -> tuple[Fraction, str]:
    """Frames per second for frames without times, and a remark where the rate is assumed.

    Args:
        stream: video stream.
        own: whether the coded stream states the rate, rather than the container.
    """
    coded = stream.codec_context.framerate
    stated = coded if own else stream.average_rate or stream.guessed_rate or coded
    if is_believable(stated):
        return Fraction(stated), ""
    assumed = f"{DEFAULT_RATE} are assumed"
    if not stated:
        return Fraction(DEFAULT_RATE), f"it states no frames per second; {assumed}"
    said = f"it states {float(stated):.8g} frames per second, which no camera has"
    return Fraction(DEFAULT_RATE), f"{said}; {assumed}"


def rate_of_times(seconds: Sequence[Fraction]) -> Fraction | None:
    """Frames per second by the median step of the times of frames, in any order."""
    ordered = sorted(seconds)
    steps = sorted(b - a for a, b in itertools.pairwise(ordered))
    if not steps or steps[0] <= 0:
        return None
    return 1 / steps[len(steps) // 2]


def average_rate(stream: Any, pts: np.ndarray, last_duration: int) -> Fraction:
    """Average frames per second of a stream with times.

    What the container states, if the times agree with it; else what they say, gaps left out.

    Args:
        stream: of the times.
        pts: int64, of all frames, ascending.
        last_duration: of the last frame in units of the time base; 0 where it is not known.
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
