"""Packets of codecs in which every frame states its size: MJPEG, ProRes, PNG."""

from __future__ import annotations

from typing import Any

from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser

# Markers of JPEG that start a frame: SOF0 to SOF15 but DHT, JPG and DAC.
_FRAME_STARTS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Bytes that contain the size in most files.
_HEADERS = 2048
# Bytes of a marker, its length, the precision and the size.
_FRAME_HEADER = 9
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}


class JpegParser(PacketParser):
    """See `PacketParser`; ITU-T T.81, B.1. Fields of interlaced video state half the height."""

    def __init__(self, extradata: bytes = b""):
        del extradata
        self._start = b""  # frame header of the previous packet, up to its size

    def _read(self, packet: Any) -> PacketKind:
        view = memoryview(packet)
        data = bytes(view[:_HEADERS])
        if self._start and self._start in data:  # the usual case
            return PacketKind.FRAME
        if (at := _frame_header(data)) < 0:
            data = bytes(view)
            at = _frame_header(data)
        self._start = data[at : at + _FRAME_HEADER] if at >= 0 else b""
        self.size = (_number(view, at + 5), _number(view, at + 7)) if at >= 0 else None
        return PacketKind.FRAME


def _frame_header(data: bytes) -> int:
    """Position of the marker before a JPEG's size; -1 if there is none."""
    at, end = 2, len(data) - 8
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_STARTS:
            return at
        if marker == 0xFF:
            at += 1
        else:
            at += 2 if marker in _WITHOUT_LENGTH else 2 + (data[at + 2] << 8 | data[at + 3])
    return -1


class ProresParser(PacketParser):
    """See `PacketParser`; SMPTE RDD 36, 5.1."""

    def _read(self, packet: Any) -> PacketKind:
        data = memoryview(packet)
        is_frame = bytes(data[4:8]) == b"icpf" and len(data) > 20
        self.size = (_number(data, 18), _number(data, 16)) if is_frame else None
        return PacketKind.FRAME


class PngParser(PacketParser):
    """See `PacketParser`; ISO/IEC 15948, 11.2.2."""

    def _read(self, packet: Any) -> PacketKind:
        data = memoryview(packet)
        is_frame = bytes(data[12:16]) == b"IHDR" and len(data) > 24
        self.size = (_number(data, 20, 4), _number(data, 16, 4)) if is_frame else None
        return PacketKind.FRAME


def _number(data: memoryview, at: int, n: int = 2) -> int:
    return int.from_bytes(data[at : at + n], "big")
