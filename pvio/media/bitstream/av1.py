"""Packets of AV1: hidden frames, and the size of frames (AV1 specification, 5.3 to 5.9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _SWITCH = 0, 3
# First byte of an empty temporal delimiter, and of frame units with a size field (5.3.2).
_DELIMITER, _FRAME_UNITS = 0x12, (_FRAME_HEADER << 3 | 2, _FRAME << 3 | 2)
# Bytes that are read of a header.
_HEADER = 64


class _Sequence(NamedTuple):
    """Fields of a sequence header; `screen_content`, `integer_mv`: 0, 1, or 2 (per frame)."""

    size: tuple[int, int]
    size_bits: tuple[int, int]
    reduced: bool
    equal_intervals: bool
    time_bits: int
    frame_id_bits: int
    screen_content: int
    integer_mv: int
    order_hint_bits: int


class Av1Parser(PacketParser):
    """See `PacketParser`. A temporal unit is a frame if it shows one; it shows at most one."""

    def __init__(self, extradata: bytes = b""):
        self._sequence: _Sequence | None = None
        # Sizes of shown frames by the first two bytes of their headers, if these determine it.
        self._known: dict[int, tuple[int, int] | None] = {}
        if extradata[:1] == b"\x81":  # AV1CodecConfigurationRecord
            self._take_sequences(memoryview(extradata)[4:])
        else:
            self._take_sequences(memoryview(extradata))

    def _take_sequences(self, data: memoryview) -> None:
        for kind, unit in _units(data):
            if kind == _SEQUENCE:
                self._take_sequence(unit)

    def _take_sequence(self, unit: memoryview) -> None:
        self._sequence = _read_sequence(Bits(bytes(unit)))
        self._known.clear()

    def _read(self, packet: Any) -> PacketKind:
        has_frame, data = False, memoryview(packet)
        at = 2 if data[0] == _DELIMITER else 0
        if data[at] in _FRAME_UNITS:  # the usual case
            at += 1
            while data[at] & 128:  # the unit's size
                at += 1
            start = int.from_bytes(data[at + 1 : at + 3], "big")
            if at + 2 < len(data) and start in self._known:
                self.size = self._known[start]
                return PacketKind.FRAME
        for kind, unit in _units(data):
            if kind == _SEQUENCE:
                self._take_sequence(unit)
            elif kind in (_FRAME_HEADER, _FRAME):
                has_frame = True
                bits = Bits(bytes(unit[:_HEADER]))
                n_bits = bits.left
                if self._read_frame(bits):
                    if n_bits - bits.left <= 16 <= n_bits and self._sequence and not unit[0] & 128:
                        self._known[unit[0] << 8 | unit[1]] = self.size
                    return PacketKind.FRAME
        return PacketKind.HIDDEN if has_frame else PacketKind.FRAME

    def _read_frame(self, bits: Bits) -> bool:
        """Read the size of a frame; returns whether it is shown."""
        sequence = self._sequence
        if sequence is None or sequence.reduced:
            self.size = sequence and sequence.size
            shown = sequence is not None or bits.flag() or bits.read(3) & 1 == 1
            bits.check()
            return shown
        if bits.flag():  # show_existing_frame; its size is not known here
            self.size = self.size or sequence.size
            return True
        kind, shown = bits.read(2), bits.flag()
        size = _frame_size(bits, kind, shown, sequence)
        bits.check()
        self.size = size
        return shown


def _frame_size(bits: Bits, kind: int, shown: bool, sequence: _Sequence) -> tuple[int, int] | None:
    """Size of a frame; None if these fields do not determine it."""
    if shown and sequence.time_bits and not sequence.equal_intervals:
        bits.skip(sequence.time_bits)
    if not shown:
        bits.skip(1)
    if kind != _SWITCH and not (kind == _KEY and shown):
        bits.skip(1)  # error_resilient_mode
    bits.skip(1)
    screen_content = bits.read(1) if sequence.screen_content == 2 else sequence.screen_content
    if screen_content and sequence.integer_mv == 2:
        bits.skip(1)
    bits.skip(sequence.frame_id_bits)
    if kind != _SWITCH and not bits.flag():
        return sequence.size
    if kind != _KEY or not shown or sequence.time_bits:
        return None
    bits.skip(sequence.order_hint_bits)
    width, height = (bits.read(n) + 1 for n in sequence.size_bits)
    return height, width


def _units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and payload of each OBU."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size = shift = 0
            while True:
                byte = data[at]
                size |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128 or shift > 56:
                    break
        yield header >> 3 & 15, data[at : at + size]
        at += size


def _read_sequence(bits: Bits) -> _Sequence:
    bits.skip(4)  # profile, still_picture
    reduced, equal_intervals, time_bits = bits.flag(), False, 0
    if reduced:
        bits.skip(5)
    else:
        delay_bits = 0
        if bits.flag():  # timing_info
            bits.skip(64)
            equal_intervals = bits.flag()
            if equal_intervals:
                bits.ue()
            if bits.flag():  # decoder_model_info
                delay_bits = bits.read(5) + 1
                bits.skip(32 + 5)
                time_bits = bits.read(5) + 1
        has_display_delay = bits.flag()
        for _ in range(bits.read(5) + 1):
            bits.skip(12)
            if bits.read(5) > 7:
                bits.skip(1)
            if delay_bits and bits.flag():
                bits.skip(2 * delay_bits + 1)
            if has_display_delay and bits.flag():
                bits.skip(4)
    size_bits = (bits.read(4) + 1, bits.read(4) + 1)
    width, height = (bits.read(n) + 1 for n in size_bits)
    frame_id_bits, screen_content, integer_mv, order_hint_bits = 0, 2, 2, 0
    if not reduced:
        if bits.flag():
            frame_id_bits = bits.read(4) + 2
            frame_id_bits += bits.read(3) + 1
        bits.skip(3 + 4)
        if has_order_hint := bits.flag():
            bits.skip(2)
        if not bits.flag():
            screen_content = bits.read(1)
        if screen_content and not bits.flag():
            integer_mv = bits.read(1)
        if has_order_hint:
            order_hint_bits = bits.read(3) + 1
    bits.check()
    return _Sequence(
        (height, width),
        size_bits,
        reduced,
        equal_intervals,
        time_bits,
        frame_id_bits,
        screen_content,
        integer_mv,
        order_hint_bits,
    )
