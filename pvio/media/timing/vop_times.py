"""Times in the headers of an MPEG-4 part 2 stream, which a raw stream has no others than."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import av

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.mpeg4 import PICTURE_START, read_layer, read_picture
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux

_GROUP = b"\0\0\1\xb3"


def vop_times(path: str, stream_index: int) -> list[Fraction]:
    """Seconds of the picture of each packet, in decoding order.

    Returns:
        Empty where a packet has no header that tells them.
    """
    times: list[Fraction] = []
    with contextlib.suppress(av.error.FFmpegError), open_container(path) as container:
        stream = container.streams[stream_index]
        layer = read_layer(stream.codec_context.extradata or b"")
        # Whole seconds up to the last picture, and to the one before it, that is no B-picture.
        second = before = 0
        for packet in demux(container, stream):
            data = bytes(packet)
            if not data:
                continue
            layer = layer or read_layer(data)
            at = data.find(PICTURE_START)
            if layer is None or layer.units == 0 or at < 0:
                return []
            if 0 <= (group := data.find(_GROUP)) < at:
                second = before = _group_second(data[group + 4 :])
            picture = read_picture(data, at, layer.time_bits)
            if not picture.is_b:
                before, second = second, second + picture.seconds
            whole = before + picture.seconds if picture.is_b else second
            times.append(whole + Fraction(picture.units, layer.units))
    return times


def _group_second(header: bytes) -> int:
    """Seconds of the header of a group of pictures (ISO/IEC 14496-2, 6.2.4)."""
    bits = Bits(header[:8])
    hours, minutes = bits.read(5), bits.read(6)
    bits.skip(1)
    return (60 * hours + minutes) * 60 + bits.read(6)
