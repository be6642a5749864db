"""Packets of MPEG-1 and MPEG-2: second fields, B-pictures, sizes."""

from __future__ import annotations

from typing import Any

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser

_PICTURE, _SEQUENCE, _EXTENSION = b"\0\0\1\0", b"\0\0\1\xb3", b"\0\0\1\xb5"
_SEQUENCE_EXTENSION, _CODING_EXTENSION = 1, 8
_TOP, _BOTTOM = 1, 2
# Sequence and GOP headers, with tables and user data, precede the coding extension.
_HEADERS, _HEADERS_OF_OTHERS = 1024, 64
_B_PICTURE = 3


class Mpeg2Parser(PacketParser):
    """See `PacketParser`; ISO/IEC 13818-2, 6.2.2 and 6.2.3 (MPEG-1 has no extensions).

    FFmpeg's parsers put both fields of a frame into one packet; files may have them in two.
    """

    def __init__(self, extradata: bytes = b""):
        self._first: tuple[int, int] | None = None  # temporal reference and parity
        self._take_size(extradata)

    def restart(self) -> None:
        """See `PacketParser.restart`."""
        self._first = None

    def _read(self, packet: Any) -> PacketKind:
        is_key = packet.is_keyframe
        data = bytes(memoryview(packet)[: _HEADERS if is_key else _HEADERS_OF_OTHERS])
        if is_key:
            self._take_size(data)
        if (at := data.find(_PICTURE)) < 0:  # after long headers
            data = bytes(packet)
            at = data.find(_PICTURE)
        is_found = 0 <= at < len(data) - 5
        self.is_reordered = data[at + 5] >> 3 & 7 == _B_PICTURE if is_found else None
        field = self._field(packet, data, at) if is_found else None
        first, self._first = self._first, field
        if field and first and field[0] == first[0] and field[1] != first[1]:
            self._first = None
            return PacketKind.SECOND_FIELD
        return PacketKind.FRAME

    def _field(self, packet: Any, data: bytes, at: int) -> tuple[int, int] | None:
        """Temporal reference and parity of a single field; None for frames and pairs."""
        extension = _extension(data, _CODING_EXTENSION, at)
        if extension < 0:
            return None
        # Four codes of 4 bits and intra_dc_precision are before picture_structure.
        structure = data[extension + 6] & 3
        if structure not in (_TOP, _BOTTOM) or bytes(packet).find(_PICTURE, at + 4) >= 0:
            return None
        return data[at + 4] << 2 | data[at + 5] >> 6, structure

    def _take_size(self, data: bytes) -> None:
        at = data.find(_SEQUENCE)
        if at < 0 or at + 7 > len(data):
            return
        bits = Bits(data[at + 4 : at + 7])
        width, height = bits.read(12), bits.read(12)
        extension = _extension(data, _SEQUENCE_EXTENSION, at)
        # Neither MPEG-1 nor progressive sequences have fields (6.3.5).
        self.all_matter = False
        if 0 <= extension < len(data) - 6:
            bits = Bits(data[extension + 4 : extension + 7])
            bits.skip(4 + 8)
            self.all_matter = not bits.flag()
            bits.skip(2)
            width, height = width | bits.read(2) << 12, height | bits.read(2) << 12
        self.size = (height, width)


def _extension(data: bytes, kind: int, at: int) -> int:
    """Position of the first extension of a kind after `at`; -1 if there is none."""
    while (at := data.find(_EXTENSION, at + 1)) >= 0:
        if at + 6 < len(data) and data[at + 4] >> 4 == kind:
            return at
    return -1
