"""What the bytes of an H.264 or HEVC packet tell: where decoding can start, and damage.

Containers and FFmpeg call a packet a keyframe for several reasons. At an IDR picture nothing before
it is referred to. At a recovery point (ITU-T H.264, D.1.8) decoding can start too, but what comes
out is right only a number of frames later: none for open GOPs, many for intra refresh.

Damage shows whether or not the decoder complains. Inside a NAL unit no two zero bytes are followed
by a byte below 3: the encoder puts a 3 between them (emulation prevention, ITU-T H.264 and H.265,
section 7.4.1). MP4 and Matroska store units with their lengths in front, which must add up to the
packet; AVI and MPEG streams put start codes between them, and begin packets with one. A zeroed
block, and much that is shuffled, breaks one of these rules; the decoder reads on without a word
when it decodes to something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")
# Between start codes (00 00 01), where zeros may stand in front of a start code and at the end.
_FORBIDDEN_BETWEEN = re.compile(rb"\x00\x00(\x02|\x00+[^\x00\x01])")
_START_CODE = re.compile(rb"\x00\x00\x01")
_IDR, _SEI, _RECOVERY_POINT = 5, 6, 6
_START = re.compile(rb"\x00{2,}\x01")
# Kinds of units that hold slices, sequence or picture parameter sets (table 7-1 of both standards).
_H264_PICTURE = frozenset((1, 2, 3, 4, 5, 7, 8))
_HEVC_PICTURE = frozenset((*range(32), 33, 34))


def length_size(codec: str, extradata: bytes | None) -> int | None:
    """Bytes of the length in front of a unit; 0 for units between start codes.

    Args:
        codec: "h264" or "hevc"; others have no NAL units: None.
        extradata: the decoder configuration (ISO/IEC 14496-15), which begins with 1 where units
            have lengths.
    """
    if codec not in ("h264", "hevc"):
        return None
    if not extradata or extradata[0] != 1:
        return 0
    at = 4 if codec == "h264" else 21
    return (extradata[at] & 3) + 1 if len(extradata) > at else None


def random_access(packet: bytes, codec: str, size: int | None) -> bool | None:
    """Whether decoding can start at a packet that is called a keyframe.

    Args:
        packet: one picture.
        codec: FFmpeg's name.
        size: of the lengths in front of units, see `length_size`.

    Returns:
        True when nothing before it is referred to, False when the decoder may complain about what
        it misses before it, None when pictures behind it are wrong.
    """
    if codec != "h264" or size is None:
        return True
    recovers = False
    for unit in _units(packet, size):
        kind = unit[0] & 31
        if kind == _IDR:
            return True
        if kind == _SEI and _recovers_at_once(unit):
            recovers = True
    return False if recovers else None


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
    """Whether a unit of messages holds a recovery point whose number of frames is 0."""
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
    """Whether a packet of units cannot be what an encoder wrote.

    Args:
        packet: one picture.
        size: bytes of the lengths in front of the units, see `length_size`.
        codec: FFmpeg's name. With it only those units are looked into that hold the picture, or
            sets of parameters for it: what a camera writes beside them may break the rules.
    """
    if size == 0:
        return bool(packet) and (not _START.match(packet) or _breaks_between(packet, codec))
    at = 0
    while at < len(packet):
        start = at + size
        at = start + int.from_bytes(packet[at:start], "big")
        # A unit has a byte at least. One or two zero bytes behind it, as some writers leave them,
        # do no harm.
        if not start < at <= len(packet):
            return True
        if _FORBIDDEN.search(packet[start:at]) and _matters(packet[start], codec):
            return True
    return False


def has_slice(packet: bytes, size: int, codec: str) -> bool:
    """Whether a packet holds a slice of a picture, and not only what stands beside it."""
    # What stands in front of a start code of 4 bytes is a unit of one zero here.
    headers = [unit[0] for unit in _units(packet, size) if len(unit) > 1]
    if codec == "h264":
        return any(1 <= header & 31 <= 5 for header in headers)
    return any(header >> 1 & 63 < 32 for header in headers)


def _breaks_between(packet: bytes, codec: str) -> bool:
    """Whether forbidden bytes are in a unit that matters, of a packet with start codes."""
    for found in _FORBIDDEN_BETWEEN.finditer(packet):
        start = packet.rfind(b"\0\0\1", 0, found.start() + 1) + 3
        if start >= len(packet) or _matters(packet[start], codec):
            return True
    return False


def _matters(header: int, codec: str) -> bool:
    """Whether a unit with this first byte holds a part of the picture, or parameters for it."""
    if codec == "h264":
        return (header & 31) in _H264_PICTURE
    if codec == "hevc":
        return (header >> 1 & 63) in _HEVC_PICTURE
    return True
