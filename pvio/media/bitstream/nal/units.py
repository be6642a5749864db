"""NAL units of H.264 and HEVC packets: random access points, and damage.

Containers and FFmpeg mark keyframes for several reasons. After an IDR picture, no frame refers to
frames before it. At a recovery point (ITU-T H.264, D.1.8) decoding can start as well, but frames
are correct only after a number of frames: 0 for open GOPs, many for intra refresh.

Damage can be found even if the decoder logs no error. Inside a NAL unit, two zero bytes are never
followed by a byte below 3: the encoder inserts a 3 (emulation prevention, ITU-T H.264 and H.265,
section 7.4.1). MP4 and Matroska prefix units with their lengths, which must add up to the packet.
AVI and MPEG streams separate units by start codes, and begin packets with one. A zeroed or shuffled
block mostly breaks one of these rules.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any

_FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")
# Between start codes (00 00 01); zeros are allowed before a start code and at the end.
_FORBIDDEN_BETWEEN = re.compile(rb"\x00\x00(\x02|\x00+[^\x00\x01])")
_START_CODE = re.compile(rb"\x00\x00\x01")
_IDR, _SEI, _RECOVERY_POINT = 5, 6, 6
_START = re.compile(rb"\x00{2,}\x01")
# Types of units with slices, sequence or picture parameter sets (table 7-1 of both standards).
_H264_PICTURE = frozenset((1, 2, 3, 4, 5, 7, 8))
_HEVC_PICTURE = frozenset((*range(32), 33, 34))


class RandomAccess(enum.Enum):
    """Whether decoding can start at a packet.

    Attributes:
        NONE: frames after it would be wrong.
        RECOVERY_POINT: yes, but the decoder may log errors about missing frames before it.
        INSTANT: yes, no frame refers to frames before it (an IDR picture, in H.264).
    """

    NONE = enum.auto()
    RECOVERY_POINT = enum.auto()
    INSTANT = enum.auto()


def nal_length_size(codec: str, extradata: bytes | None) -> int | None:
    """Bytes of the length before each unit; 0 for units separated by start codes.

    Args:
        codec: FFmpeg's name.
        extradata: the decoder configuration (ISO/IEC 14496-15), which begins with 1 where units
            have lengths.

    Returns:
        None for codecs other than "h264" and "hevc", which have no NAL units.
    """
    if codec not in ("h264", "hevc"):
        return None
    if not extradata or extradata[0] != 1:
        return 0
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else None


def random_access(packet: Any, codec: str, length_size: int | None) -> RandomAccess:
    """Whether decoding can start at a packet that is marked as a keyframe.

    Args:
        packet: bytes of one frame.
        codec: FFmpeg's name.
        length_size: bytes of the length before each unit, see `nal_length_size`.
    """
    if codec != "h264" or length_size is None:
        return RandomAccess.INSTANT
    recovers = False
    for unit in _units(bytes(packet), length_size):
        kind = unit[0] & 31
        if kind == _IDR:
            return RandomAccess.INSTANT
        if kind == _SEI and _recovers_at_once(unit):
            recovers = True
    return RandomAccess.RECOVERY_POINT if recovers else RandomAccess.NONE


def _units(packet: bytes, size: int) -> Iterator[bytes]:
    if size == 0:
        yield from filter(None, _START_CODE.split(packet))
        return
    at = 0
    while at + size < len(packet):
        start = at + size
        at = start + int.from_bytes(packet[at:start], "big")
        yield packet[start:at] or b"\0"


def _recovers_at_once(sei: bytes) -> bool:
    """Whether an SEI unit contains a recovery point with a frame count of 0."""
    at = 1
    while at + 2 < len(sei):
        numbers = []
        for _ in range(2):  # type and size, in bytes of 255 and a rest
            number = 0
            while at < len(sei) - 1 and sei[at] == 255:
                number, at = number + 255, at + 1
            numbers.append(number + sei[at])
            at += 1
        kind, length = numbers
        if kind == _RECOVERY_POINT and at < len(sei):
            return sei[at] >= 128  # an Exp-Golomb code of 0 is the single bit 1
        at += length
    return False


def is_damaged(packet: bytes, size: int, codec: str = "") -> bool:
    """Whether a packet breaks the rules by which encoders write NAL units.

    Args:
        packet: one frame.
        size: bytes of the length before each unit, see `nal_length_size`.
        codec: FFmpeg's name. If given, only slices and parameter sets are checked: other units
            that a camera adds may break the rules.
    """
    if size == 0:
        return bool(packet) and (not _START.match(packet) or _breaks_between(packet, codec))
    at = 0
    while at < len(packet):
        start = at + size
        at = start + int.from_bytes(packet[at:start], "big")
        # A unit has at least one byte. One or two zero bytes after it, which some writers leave,
        # do no harm.
        if not start < at <= len(packet):
            return True
        if _FORBIDDEN.search(packet[start:at]) and _matters(packet[start], codec):
            return True
    return False


def has_slice(packet: bytes, size: int, codec: str) -> bool:
    """Whether a packet contains a slice of a frame, and not only side information.

    Args:
        packet: NAL units.
        size: bytes of the length before each unit, see `nal_length_size`.
        codec: "h264" or "hevc".
    """
    # The zero byte before a start code of 4 bytes is a unit of length 1 here.
    headers = [unit[0] for unit in _units(packet, size) if len(unit) > 1]
    if codec == "h264":
        return any(1 <= header & 31 <= 5 for header in headers)
    return any(header >> 1 & 63 < 32 for header in headers)


def _breaks_between(packet: bytes, codec: str) -> bool:
    """Whether a relevant unit of a packet with start codes contains forbidden bytes."""
    for found in _FORBIDDEN_BETWEEN.finditer(packet):
        start = packet.rfind(b"\0\0\1", 0, found.start() + 1) + 3
        if start >= len(packet) or _matters(packet[start], codec):
            return True
    return False


def _matters(header: int, codec: str) -> bool:
    """Whether a unit with this first byte is a slice or a parameter set."""
    if codec == "h264":
        return (header & 31) in _H264_PICTURE
    if codec == "hevc":
        return (header >> 1 & 63) in _HEVC_PICTURE
    return True
