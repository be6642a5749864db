"""Damage that shows in the bytes of an H.264 or HEVC packet, whether or not the decoder complains.

Inside a NAL unit no two zero bytes are followed by a byte below 3: the encoder puts a 3 between
them (emulation prevention, ITU-T H.264 and H.265, section 7.4.1). MP4 and Matroska store units with
their lengths in front, which must add up to the packet. A zeroed block, and much that is shuffled,
breaks one of these rules; the decoder reads on without a word when it decodes to something.
"""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(rb"\x00\x00[\x00-\x02]")


def length_size(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length in front of a unit; 0 for other codecs and for units between start codes.

    Args:
        codec: "h264" or "hevc"; others have no NAL units.
        extradata: the decoder configuration (ISO/IEC 14496-15), which begins with 1 in these files.
    """
    if not extradata or extradata[0] != 1:
        return 0
    if codec == "h264" and len(extradata) > 4:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21:
        return (extradata[21] & 3) + 1
    return 0


def is_damaged(packet: bytes, size: int) -> bool:
    """Whether a packet of units with lengths of `size` bytes cannot be what an encoder wrote."""
    at = 0
    while at < len(packet):
        start = at + size
        at = start + int.from_bytes(packet[at:start], "big")
        # A unit has a byte at least. One or two zero bytes behind it, as some writers leave them,
        # do no harm.
        if not start < at <= len(packet) or _FORBIDDEN.search(packet[start:at]):
            return True
    return False
