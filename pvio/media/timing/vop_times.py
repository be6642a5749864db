"""Times in the frame headers of an MPEG-4 part 2 stream, the only ones in a raw stream."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import av

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.mpeg4 import VOP_START, read_layer, read_vop_header
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux

_GROUP = b"\0\0\1\xb3"


def vop_times(path: str, stream_index: int) -> list[Fraction]:
    """Time of each packet's frame in seconds, in decoding order.

    Args:
        path: the file.
        stream_index: of the video stream.

    Returns:
        Empty if a packet has no header with a time.
    """
    times: list[Fraction] = []
    with contextlib.suppress(av.error.FFmpegError), open_container(path) as container:
        stream = container.streams[stream_index]
        layer = read_layer(stream.codec_context.extradata or b"")
        # Whole seconds at the last two frames that are not B-pictures.
        second = before = 0
        for packet in demux(container, stream):
            data = bytes(packet)
            if not data:
                continue
            layer = layer or read_layer(data)
            at = data.find(VOP_START)
            if layer is None or layer.units == 0 or at < 0:
                return []
            if 0 <= (group := data.find(_GROUP)) < at:
                second = before = _group_second(data[group + 4 :])
            vop = read_vop_header(data, at, layer.time_bits)
            if not vop.is_b:
                before, second = second, second + vop.seconds
            whole = before + vop.seconds if vop.is_b else second
            times.append(whole + Fraction(vop.units, layer.units))
    return times


def _group_second(header: bytes) -> int:
    """Seconds of the header of a group of pictures (ISO/IEC 14496-2, 6.2.4)."""
    bits = Bits(header[:8])
    hours, minutes = bits.read(5), bits.read(6)
    bits.skip(1)
    return (60 * hours + minutes) * 60 + bits.read(6)
