"""Packets of MPEG-4 part 2: repeated and packed frames, B-pictures, times, sizes.

ISO/IEC 14496-2, 6.2.3 to 6.2.5: a video object layer (VOL) states the size and the units of time
per second; each frame (VOP) its type, its time, and whether it is coded.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser

VOP_START = b"\0\0\1\xb6"
# Bytes of a start code and of what is read after it at once.
_START, _FRONT = int.from_bytes(VOP_START, "big"), 12
_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
# Enough for what is read of a layer, and of a frame.
_LAYER_BYTES, _VOP_BYTES = 64, 20
# Before the frame come the headers of a keyframe, with user data.
_HEADERS = 1024
_B_PICTURE = 2
_OWN_ASPECT, _RECTANGLE, _GRAY_SHAPE = 15, 0, 3


class Layer(NamedTuple):
    """Fields of a video object layer.

    Attributes:
        units: of time per second; 0 only in a damaged header.
        size: (height, width); None for shapes other than rectangles.
    """

    units: int
    size: tuple[int, int] | None

    @property
    def time_bits(self) -> int:
        """Bits of the time field in frame headers."""
        return max(1, (self.units - 1).bit_length())


class VopHeader(NamedTuple):
    """Fields of a frame header (VOP).

    Attributes:
        is_b: whether it is a B-picture, shown before the frame decoded before it.
        seconds: whole seconds since the frame shown before it.
        units: of time after the whole second.
        is_coded: whether it has its own data.
    """

    is_b: bool
    seconds: int
    units: int
    is_coded: bool


def read_layer(data: bytes) -> Layer | None:
    """The first video object layer in the data; None if there is none or it is damaged."""
    found = _LAYER.search(data)
    if found is None:
        return None
    bits = Bits(data[found.end() : found.end() + _LAYER_BYTES])
    bits.skip(1 + 8)
    version = 1
    if bits.flag():
        version = bits.read(4)
        bits.skip(3)
    if bits.read(4) == _OWN_ASPECT:
        bits.skip(16)
    if bits.flag():  # vol_control_parameters
        bits.skip(3)
        if bits.flag():
            bits.skip(79)
    shape = bits.read(2)
    if shape == _GRAY_SHAPE and version != 1:
        bits.skip(4)
    bits.skip(1)
    layer = Layer(bits.read(16), None)
    bits.skip(1)
    if bits.flag():
        bits.skip(layer.time_bits)
    if shape == _RECTANGLE:
        bits.skip(1)
        width = bits.read(13)
        bits.skip(1)
        layer = layer._replace(size=(bits.read(13), width))
    return layer if bits.left >= 0 else None


def read_vop_header(data: bytes, at: int, time_bits: int) -> VopHeader:
    """The header of the frame whose start code is at byte `at`; missing bytes count as zeros.

    Args:
        data: of a packet.
        at: position of `VOP_START`.
        time_bits: see `Layer.time_bits`.
    """
    bits = Bits(data[at + 4 : at + _VOP_BYTES])
    is_b, seconds = bits.read(2) == _B_PICTURE, 0
    while bits.flag():
        seconds += 1
    bits.skip(1)
    units = bits.read(time_bits)
    bits.skip(1)
    return VopHeader(is_b, seconds, units, bits.flag() or bits.left < 0)


class Mpeg4Parser(PacketParser):
    """See `PacketParser`.

    A frame that is not coded repeats the one before. In the packed streams of DivX it may instead
    mark where a B-picture is shown that was in the packet before; decoders return a frame then.
    """

    def __init__(self, extradata: bytes = b""):
        self._time_bits = 0
        self._may_be_packed = False
        self._layer = b""  # the last headers
        self._held_back = False  # a frame of a packed stream that the next packet shows
        self._take_layer(extradata)

    def restart(self) -> None:
        """See `PacketParser.restart`."""
        self._held_back = False

    def _read(self, packet: Any) -> PacketKind:
        view = memoryview(packet)
        front = int.from_bytes(view[:_FRONT], "big")
        is_known = front >> 64 == _START and not self._may_be_packed and self._time_bits > 0
        # The usual case: type, no new second, marker, time, marker, and coded.
        if is_known and not front >> 61 & 1 and front >> 58 - self._time_bits & 1:
            self.is_reordered = front >> 62 & 3 == _B_PICTURE
            return PacketKind.FRAME
        data = bytes(view[:_HEADERS])
        at = data.find(VOP_START)
        if at > 0:
            self._take_layer(data[:at])
        self.is_reordered = None
        if at < 0:
            return PacketKind.FRAME
        vop = read_vop_header(data, at, self._time_bits)
        # The packet shows the B-picture that was held back, if there is one.
        self.is_reordered = vop.is_b or self._held_back
        if self._time_bits == 0:
            return PacketKind.FRAME
        if vop.is_coded:
            if self._may_be_packed:
                self._held_back |= bytes(packet).find(VOP_START, at + 4) >= 0
            return PacketKind.FRAME
        if self._held_back:
            self._held_back = False
            return PacketKind.FRAME
        return PacketKind.REPEATED

    def _take_layer(self, data: bytes) -> None:
        if data == self._layer:
            return
        self._layer = data
        self._may_be_packed |= b"DivX" in data
        if layer := read_layer(data):
            self._time_bits, self.size = layer.time_bits, layer.size or self.size
