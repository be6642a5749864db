"""NAL units of H.264 and HEVC, and the header fields that both codecs have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pvio.media.bitstream.bits import Bits, without_escapes
from pvio.media.bitstream.packet_kinds import OrderCount

_START_CODE = re.compile(rb"\x00\x00\x01")
_FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")
# Bytes that are read of a slice header, with emulation prevention bytes.
_SLICE_HEADER = 48
# Bytes that are read of a parameter set.
_SET = 2048
# Longest order counts and frame numbers (ITU-T H.264, 7.4.2.1.1).
MOST_COUNT_BITS = 16
# The start of a slice header is looked up by its first 16 bits, if it is no longer; bytes with it,
# the frame number and the order count.
MOST_START_BITS, FRONT = 16, 8


class Slice(NamedTuple):
    """Fields of a slice header, about its frame.

    Attributes:
        size: (height, width) of the frame, cropped.
        field: "frame", or "top" or "bottom" for a field.
        frame_num: as H.264 has it; 0 in HEVC.
        order: picture order count; None if parameter sets exclude reordering, and for slices of
            HEVC that are not the first of a frame.
    """

    size: tuple[int, int]
    field: str = "frame"
    frame_num: int = 0
    order: OrderCount | None = None


class NalHeaders(Protocol):
    """Reads the headers of units in decoding order, and keeps the parameter sets."""

    @property
    def has_fields(self) -> bool:
        """Whether frames may be coded as two fields, in one packet each."""

    @property
    def has_order(self) -> bool:
        """Whether frames may have a picture order count."""

    def units_of_extradata(self, extradata: bytes) -> Iterator[memoryview]:
        """The parameter sets of a decoder configuration (ISO/IEC 14496-15)."""

    def read(self, unit: memoryview, has_lengths: bool) -> Slice | None:
        """The header of a slice; None for other units, and where its parameter sets are absent.

        A unit that is a parameter set is kept; others are ignored, and so are damaged ones.

        Args:
            unit: and perhaps others after it where units are between start codes.
            has_lengths: whether units have their lengths in front.
        """


def units_of(packet: memoryview, length_size: int) -> Iterator[memoryview]:
    """The units of a packet, found one by one.

    Args:
        packet: of a stream.
        length_size: bytes of the length before each unit. If 0, units are separated by start
            codes, and each is followed by all others.
    """
    if length_size == 0:
        for found in _START_CODE.finditer(packet):
            yield packet[found.end() :]
        return
    at = 0
    while at + length_size < len(packet):
        start = at + length_size
        at = start + int.from_bytes(packet[at:start], "big")
        yield packet[start:at]


def sets_with_lengths(data: memoryview, at: int, n: int) -> Iterator[tuple[memoryview, int]]:
    """Parameter sets (n) prefixed with lengths of 2 bytes, each with the position of the next."""
    for _ in range(n):
        start = at + 2
        if start >= len(data):
            return
        at = start + int.from_bytes(data[at:start], "big")
        yield data[start:at], at


def set_bits(unit: memoryview, header: int) -> Bits:
    """The bits of a parameter set, without the header of its unit (bytes)."""
    return Bits(without_escapes(bytes(unit[header:_SET]).split(b"\0\0\1", 1)[0]))


def slice_bytes(unit: memoryview, header: int, has_lengths: bool) -> tuple[bytes, bool]:
    """The first bytes of a slice after the unit header, and whether they are damaged."""
    data = bytes(unit[header:_SLICE_HEADER])
    if b"\0\0" not in data:
        return data, False
    if not has_lengths:
        data = data.split(b"\0\0\1", 1)[0]
    is_damaged = _FORBIDDEN.search(data.rstrip(b"\0")) is not None
    return without_escapes(data), is_damaged


def cropped(bits: Bits, height: int, width: int, unit_y: int, unit_x: int) -> tuple[int, int]:
    """(height, width) inside the cropping window, which is read from `bits`."""
    if bits.flag():
        left, right, top, bottom = (bits.ue() for _ in range(4))
        height, width = height - unit_y * (top + bottom), width - unit_x * (left + right)
    return height, width
