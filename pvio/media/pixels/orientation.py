"""The display orientation of a video: quarter turns and mirroring stored next to the frames."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

# Numbers of types of side data below this are looked at; FFmpeg 8 has 33.
_MOST_TYPES = 64


@dataclass(frozen=True)
class Orientation:
    """The transformation of a coded frame to be upright: mirrored left to right first, then turned.

    Attributes:
        quarter_turns: counterclockwise turns by 90 degrees, 0 to 3.
        mirrored: whether the coded frame is mirrored left to right before turning.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    @property
    def is_upright(self) -> bool:
        """Whether coded frames need no change."""
        return self.quarter_turns == 0 and not self.mirrored

    def upright_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the upright frame for a coded frame of this size."""
        return (width, height) if self.quarter_turns % 2 else (height, width)

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """An upright view of a plane H×W or a frame H×W×C; no copy."""
        if self.mirrored:
            plane = plane[:, ::-1]
        return np.rot90(plane, self.quarter_turns) if self.quarter_turns else plane


def orientation_of(frame: Any) -> Orientation:
    """The orientation in a decoded frame's display matrix (upright when it has none).

    The matrix has a, b at 0, 1 and c, d at 3, 4 as 16.16 fixed point numbers, rows acting on
    (x, y) with y down; a rotation counterclockwise by t is a = d = cos t, b = -sin t = -c
    (libavutil/display.c). Angles are rounded to quarter turns, as players do.
    """
    try:
        data = _display_matrix(frame)
    except (ValueError, av.error.FFmpegError):
        return Orientation(round(frame.rotation / 90) % 4)  # all but mirroring
    return Orientation() if data is None else _of_matrix(data)


def orientation_from_exif(value: Any) -> Orientation:
    """The orientation that the EXIF tag 274 states; upright for a value that it does not have.

    The tag states where the first row and column of the stored image are shown: 1 top left, 2 top
    right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom
    (EXIF 3.0, 4.6.5.1.6; TIFF 6.0, page 36).
    """
    turns, mirrored = _EXIF.get(value, (0, False)) if isinstance(value, int) else (0, False)
    return Orientation(turns, mirrored)


# Value of the tag: counterclockwise quarter turns, after mirroring left to right.
_EXIF = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (1, True),
    6: (3, False),
    7: (3, True),
    8: (1, False),
}


def _of_matrix(data: bytes) -> Orientation:
    a, b, _, c, d = struct.unpack_from("=5i", data)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b  # the mirroring comes first: it negates x, the first row
    degrees = -math.degrees(math.atan2(b, a))
    return Orientation(round(degrees / 90) % 4, mirrored)


def _display_matrix(frame: Any) -> bytes | None:
    """The display matrix of a frame, also among side data of types that PyAV does not know."""
    try:
        side_data = frame.side_data
    except ValueError:  # PyAV 18 has no name for EXIF, LCEVC and what FFmpeg will add
        side_data = _without_unknown(frame).side_data
    data: Any = side_data.get(SideDataType.DISPLAYMATRIX)
    return None if data is None else bytes(data)


def _without_unknown(frame: Any) -> Any:
    """The same frame without side data of types that PyAV has no name for."""
    graph = av.filter.Graph()
    base = frame.time_base or Fraction(1)
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=base
    )
    known: set[Any] = {each.value for each in SideDataType}
    for number in range(_MOST_TYPES):
        if number not in known:
            following = graph.add("sidedata", f"mode=delete:type={number}")
            last.link_to(following)
            last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.pull()
