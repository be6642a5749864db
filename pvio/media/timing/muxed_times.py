"""Timestamps of a written video, as its container stores them."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np

from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux

# FFmpeg writes Matroska in milliseconds and has no option for less (libavformat/matroskaenc.c).
_MATROSKA_UNIT = Fraction(1, 1000)


def muxed_timestamps(
    pts: np.ndarray, time_base: Fraction, path: str | os.PathLike[str]
) -> tuple[np.ndarray, Fraction]:
    """Time stamps as a container stores them: strictly ascending, and exact except in Matroska.

    In Matroska they are rounded to milliseconds. Repeated time stamps move up to the next free
    unit. A video that starts before 0 is shifted to start at 0.

    Args:
        pts: int64, ascending, in units of `time_base`.
        time_base: seconds per unit.
        path: of the video; its ending determines the container.

    Returns:
        int64 time stamps, and the seconds per unit of these.
    """
    pts = pts + negative_start(pts)
    if not is_matroska(path):
        return strictly_ascending(pts), time_base
    scale = time_base / _MATROSKA_UNIT
    num, den = scale.numerator, scale.denominator
    units = np.array([(2 * int(each) * num + den) // (2 * den) for each in pts], np.int64)
    return strictly_ascending(units), _MATROSKA_UNIT


def negative_start(pts: np.ndarray) -> int:
    """Units of its time stamps by which a video starts before 0; else 0."""
    return max(0, -int(pts[0])) if len(pts) else 0


def strictly_ascending(pts: np.ndarray) -> np.ndarray:
    """Move repeated time stamps (int64, ascending) up to the next free unit."""
    if len(pts) < 2 or np.all(np.diff(pts) > 0):
        return pts
    numbers = np.arange(len(pts))
    return np.maximum.accumulate(pts - numbers) + numbers


def presentation_times(path: str | os.PathLike[str]) -> list[Fraction]:
    """Presentation times of a video's frames in seconds, ascending; read from its packets."""
    with open_container(os.fspath(path)) as container:
        stream = container.streams.video[0]
        unit = stream.time_base or Fraction(1)
        packets = demux(container, stream)
        return sorted(int(packet.pts or 0) * unit for packet in packets if packet.size)


def is_matroska(path: str | os.PathLike[str]) -> bool:
    """Whether the ending of a path is that of Matroska."""
    return os.fspath(path).lower().endswith(".mkv")
