"""Packets of VP8 and VP9: hidden frames, and the size of frames."""

from __future__ import annotations

from typing import Any

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser

_VP8_START, _VP9_SYNC = b"\x9d\x01\x2a", 0x498342
# Bytes that are read of a frame header of VP9.
_VP9_HEADER = 24
_VP9_RGB = 7
_SUPERFRAME = 6
# A frame marker, profile 0 to 2, no existing frame, inter, shown, not error resilient.
_PLAIN_MASK, _PLAIN = 0xCF, 0x86


class Vp8Parser(PacketParser):
    """See `PacketParser`; RFC 6386, 9.1."""

    def _read(self, packet: Any) -> PacketKind:
        data = memoryview(packet)
        if not data[0] & 1:
            if bytes(data[3:6]) != _VP8_START:
                return PacketKind.FRAME  # damaged
            width, height = (int.from_bytes(data[at : at + 2], "little") for at in (6, 8))
            self.size = (height & 0x3FFF, width & 0x3FFF)
        first_part = int.from_bytes(data[:3], "little") >> 5
        is_damaged = first_part > len(data) - 3
        return PacketKind.FRAME if data[0] & 0x10 or is_damaged else PacketKind.HIDDEN


class Vp9Parser(PacketParser):
    """See `PacketParser`; VP9 bitstream specification, 6.2 and Annex B (superframes)."""

    def __init__(self, extradata: bytes = b""):
        del extradata
        self._slots: list[tuple[int, int] | None] = [None] * 8
        self._is_uniform = False

    def restart(self) -> None:
        """See `PacketParser.restart`."""
        self._slots, self._is_uniform = [None] * 8, False

    def _read(self, packet: Any) -> PacketKind:
        data = memoryview(packet)
        if self._is_uniform and data[0] & _PLAIN_MASK == _PLAIN:
            has_size_of_reference = data[3] & 2
            if has_size_of_reference and data[-1] >> 5 != _SUPERFRAME:
                return PacketKind.FRAME  # has the same size as all frames so far
        shown, size = False, self.size
        for frame in _vp9_frames(data):
            if self._read_frame(frame):
                shown, size = True, self.size
        self.size = size
        return PacketKind.FRAME if shown else PacketKind.HIDDEN

    def _read_frame(self, data: memoryview) -> bool:
        """Read the size of a frame; returns whether it is shown."""
        bits = Bits(bytes(data[:_VP9_HEADER]))
        if bits.read(2) != 2:
            return True
        profile = bits.read(1) | bits.read(1) << 1
        if profile == 3:
            bits.skip(1)
        if bits.flag():  # show_existing_frame
            slot = bits.read(3)
            bits.check()
            self.size = self._slots[slot]
            return True
        is_inter, shown, resilient = bits.flag(), bits.flag(), bits.flag()
        refreshed = 0xFF
        if not is_inter:
            _read_sync(bits)
            _skip_color(bits, profile)
            size: tuple[int, int] | None = _vp9_size(bits)
        else:
            intra_only = not shown and bits.flag()
            if not resilient:
                bits.skip(2)
            if intra_only:
                _read_sync(bits)
                if profile > 0:
                    _skip_color(bits, profile)
                refreshed = bits.read(8)
                size = _vp9_size(bits)
            else:
                refreshed = bits.read(8)
                references = [bits.read(4) >> 1 for _ in range(3)]
                same = next((slot for slot in references if bits.flag()), None)
                size = _vp9_size(bits) if same is None else self._slots[same]
        bits.check()
        self.size = size
        for slot in range(8):
            if refreshed >> slot & 1:
                self._slots[slot] = self.size
        self._is_uniform = all(slot == self.size for slot in self._slots)
        return shown


def _vp9_frames(data: memoryview) -> list[memoryview]:
    """The frames of a superframe, or the packet itself."""
    marker = data[-1]
    n_frames, n_bytes = (marker & 7) + 1, (marker >> 3 & 3) + 1
    length = 2 + n_frames * n_bytes
    if marker >> 5 != _SUPERFRAME or len(data) < length or data[-length] != marker:
        return [data]
    frames, at = [], 0
    for number in range(n_frames):
        entry = len(data) - length + 1 + number * n_bytes
        size = int.from_bytes(data[entry : entry + n_bytes], "little")
        if size:
            frames.append(data[at : at + size])
        at += size
    return frames


def _read_sync(bits: Bits) -> None:
    if bits.read(24) != _VP9_SYNC:
        raise EOFError


def _skip_color(bits: Bits, profile: int) -> None:
    if profile >= 2:
        bits.skip(1)
    is_rgb = bits.read(3) == _VP9_RGB
    if not is_rgb:
        bits.skip(1)
    if profile % 2:
        bits.skip(1 if is_rgb else 3)


def _vp9_size(bits: Bits) -> tuple[int, int]:
    width, height = bits.read(16) + 1, bits.read(16) + 1
    return height, width
