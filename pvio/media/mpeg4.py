"""Times in the headers of an MPEG-4 part 2 stream, which a raw stream has no others than.

ISO/IEC 14496-2, 6.2.3 to 6.2.5: the video object layer (VOL) tells the units of time in a second;
each picture (VOP) tells how many units it is after a whole second, and the seconds that have begun
since the picture shown before it.
"""

from __future__ import annotations

import contextlib
import re
from fractions import Fraction

import av

from pvio.media.bits import Bits
from pvio.media.container import open_container
from pvio.media.demux import demux

_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
_PICTURE = b"\0\0\1\xb6"
_GROUP = b"\0\0\1\xb3"
_HEADER_BYTES = 64
_B_PICTURE = 2


def vop_times(path: str, stream_index: int) -> list[Fraction]:
    """Seconds of the picture of each packet, in decoding order.

    Returns:
        Empty where a packet has no header that tells them.
    """
    times: list[Fraction] = []
    with contextlib.suppress(av.error.FFmpegError), open_container(path) as container:
        stream = container.streams[stream_index]
        units = _units_per_second(stream.codec_context.extradata or b"")
        # Whole seconds up to the last picture, and to the one before it, that is no B-picture.
        second = before = 0
        for packet in demux(container, stream):
            data = bytes(packet)
            if not data:
                continue
            units = units or _units_per_second(data)
            at = data.find(_PICTURE)
            if not units or at < 0:
                return []
            if 0 <= (group := data.find(_GROUP)) < at:
                second = before = _group_second(data[group + 4 :])
            bits = Bits(data[at + 4 : at + _HEADER_BYTES])
            is_b = bits.read(2) == _B_PICTURE
            begun = 0
            while bits.left > 0 and bits.read(1):
                begun += 1
            bits.skip(1)
            if not is_b:
                before, second = second, second + begun
            whole = before + begun if is_b else second
            times.append(whole + Fraction(bits.read(max(1, (units - 1).bit_length())), units))
    return times


def _units_per_second(data: bytes) -> int:
    """Of the first video object layer in the data; 0 when there is none."""
    found = _LAYER.search(data)
    if found is None:
        return 0
    bits = Bits(data[found.end() : found.end() + _HEADER_BYTES])
    bits.skip(1 + 8)
    version = 1
    if bits.read(1):
        version = bits.read(4)
        bits.skip(3)
    if bits.read(4) == 15:  # aspect ratio of its own
        bits.skip(16)
    if bits.read(1):  # control parameters
        bits.skip(3)
        if bits.read(1):
            bits.skip(79)
    if bits.read(2) == 3 and version != 1:  # shape
        bits.skip(4)
    bits.skip(1)
    return bits.read(16)


def _group_second(header: bytes) -> int:
    bits = Bits(header[:8])
    hours, minutes = bits.read(5), bits.read(6)
    bits.skip(1)
    return (60 * hours + minutes) * 60 + bits.read(6)
