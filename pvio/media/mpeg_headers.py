"""Packets of MPEG-1, MPEG-2 and MPEG-4 Part 2: second fields, repeated pictures, sizes."""

from __future__ import annotations

from typing import Any

from pvio.media.bits import BitReader
from pvio.media.packet_kinds import Kind, PacketParser

_PICTURE, _SEQUENCE, _EXTENSION = b"\0\0\1\0", b"\0\0\1\xb3", b"\0\0\1\xb5"
_SEQUENCE_EXTENSION, _CODING_EXTENSION = 1, 8
_TOP, _BOTTOM = 1, 2
# In front of the coding extension come the sequence and GOP headers, with tables and user data.
_HEADERS, _HEADERS_OF_OTHERS = 1024, 64

_VOP, _LAYER = b"\0\0\1\xb6", range(0x20, 0x30)
_B_VOP = 2
_SQUARE_EXTENDED, _RECTANGLE, _GRAY_SHAPE = 15, 0, 3


class Mpeg2Parser(PacketParser):
    """See `PacketParser`; ISO/IEC 13818-2, 6.2.2 and 6.2.3 (MPEG-1 has no extensions).

    The parsers of FFmpeg put both fields of a frame into one packet; files may have them in two.
    """

    def __init__(self, extradata: bytes = b""):
        self._first: tuple[int, int] | None = None  # temporal reference and parity
        self._take_size(extradata)

    def restart(self) -> None:
        self._first = None

    def _read(self, packet: Any) -> Kind:
        is_key = packet.is_keyframe
        data = bytes(memoryview(packet)[: _HEADERS if is_key else _HEADERS_OF_OTHERS])
        if is_key:
            self._take_size(data)
        field = self._field(packet, data)
        first, self._first = self._first, field
        if field and first and field[0] == first[0] and field[1] != first[1]:
            self._first = None
            return Kind.SECOND_FIELD
        return Kind.FRAME

    def _field(self, packet: Any, data: bytes) -> tuple[int, int] | None:
        """Temporal reference and parity of a single field; None for frames and pairs."""
        at = data.find(_PICTURE)
        extension = _extension(data, _CODING_EXTENSION, at)
        if at < 0 or extension < 0:
            return None
        # Four codes of 4 bits and intra_dc_precision are in front of picture_structure.
        structure = data[extension + 6] & 3
        if structure not in (_TOP, _BOTTOM) or bytes(packet).find(_PICTURE, at + 4) >= 0:
            return None
        return data[at + 4] << 2 | data[at + 5] >> 6, structure

    def _take_size(self, data: bytes) -> None:
        at = data.find(_SEQUENCE)
        if at < 0 or at + 7 > len(data):
            return
        bits = BitReader(data[at + 4 : at + 7])
        width, height = bits.bits(12), bits.bits(12)
        extension = _extension(data, _SEQUENCE_EXTENSION, at)
        if 0 <= extension < len(data) - 6:
            bits = BitReader(data[extension + 4 : extension + 7])
            bits.skip(4 + 8 + 1 + 2)
            width, height = width | bits.bits(2) << 12, height | bits.bits(2) << 12
        self.size = (height, width)


def _extension(data: bytes, kind: int, at: int) -> int:
    """Position of the first extension of a kind behind `at`; -1 where there is none."""
    while (at := data.find(_EXTENSION, at + 1)) >= 0:
        if at + 6 < len(data) and data[at + 4] >> 4 == kind:
            return at
    return -1


class Mpeg4Parser(PacketParser):
    """See `PacketParser`; ISO/IEC 14496-2, 6.2.3 and 6.2.5.

    A picture that is not coded is the one before again. In the packed streams of DivX it may
    instead stand where a B-picture is shown that came with the packet before: decoders give a
    picture for it then.
    """

    def __init__(self, extradata: bytes = b""):
        self._time_bits = 0
        self._may_be_packed = False
        self._held_back = False  # a picture of a packed stream waits for the next packet
        self._take_layer(extradata)

    def restart(self) -> None:
        self._held_back = False

    def _read(self, packet: Any) -> Kind:
        data = bytes(memoryview(packet)[:_HEADERS])
        at = data.find(_VOP)
        if at > 0:
            self._take_layer(data[:at])
        if at < 0 or self._time_bits == 0:
            self.is_reordered = False
            return Kind.FRAME
        bits = BitReader(data[at + 4 : at + 24])
        kind = bits.bits(2)
        self.is_reordered = kind == _B_VOP
        while bits.flag():
            pass
        bits.skip(1 + self._time_bits + 1)
        if bits.flag():
            if self._may_be_packed:
                self._held_back |= bytes(packet).find(_VOP, at + 4) >= 0
            return Kind.FRAME
        if self._held_back:
            self._held_back = False
            return Kind.FRAME
        return Kind.AS_BEFORE

    def _take_layer(self, data: bytes) -> None:
        self._may_be_packed |= b"DivX" in data
        at = data.find(b"\0\0\1")
        while at >= 0 and at + 3 < len(data):
            if data[at + 3] in _LAYER:
                try:
                    self._read_layer(BitReader(data[at + 4 : at + 64]))
                except EOFError:
                    return
            at = data.find(b"\0\0\1", at + 3)

    def _read_layer(self, bits: BitReader) -> None:
        bits.skip(1 + 8)
        version = 1
        if bits.flag():
            version = bits.bits(4)
            bits.skip(3)
        if bits.bits(4) == _SQUARE_EXTENDED:
            bits.skip(16)
        if bits.flag():  # vol_control_parameters
            bits.skip(3)
            if bits.flag():
                bits.skip(79)
        shape = bits.bits(2)
        if shape == _GRAY_SHAPE and version != 1:
            bits.skip(4)
        bits.skip(1)
        resolution = bits.bits(16)
        bits.skip(1)
        self._time_bits = time_bits = max(1, (resolution - 1).bit_length())
        if bits.flag():
            bits.skip(time_bits)
        if shape == _RECTANGLE:
            bits.skip(1)
            width = bits.bits(13)
            bits.skip(1)
            self.size = (bits.bits(13), width)
