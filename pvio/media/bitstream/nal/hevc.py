"""Parameter sets and slice headers of HEVC (ITU-T H.265, 7.3.2.2, 7.3.2.3 and 7.3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pvio.media.bitstream.bits import Bits
from pvio.media.bitstream.nal.parameter_sets import (
    FRONT,
    MOST_COUNT_BITS,
    MOST_START_BITS,
    Slice,
    cropped,
    set_bits,
    sets_with_lengths,
    slice_bytes,
    units_of,
)
from pvio.media.bitstream.packet_kinds import OrderCount

_END_OF_SLICES, _SPS, _PPS = 32, 33, 34  # table 7-1
_IRAP, _IDR, _BLA = range(16, 24), (19, 20), range(16, 19)


class _Sps(NamedTuple):
    """A sequence parameter set.

    Attributes:
        size: (height, width) of the frames, cropped.
        plane_bits: in a slice header, of the number of its color plane.
        count_bits: of the order count.
    """

    size: tuple[int, int]
    plane_bits: int
    count_bits: int


class _Pps(NamedTuple):
    """A picture parameter set.

    Attributes:
        sps: number of its SPS.
        output_bits: in a slice header, of the flag whether its frame is shown.
        extra_bits: in a slice header.
    """

    sps: int
    output_bits: int
    extra_bits: int


class HevcHeaders:
    """See `NalHeaders`. Fields count as frames here, as in FFmpeg."""

    has_fields, has_order = False, True

    def __init__(self) -> None:
        self._sps: dict[int, _Sps] = {}
        self._pps: dict[int, _Pps] = {}
        # By the first two bytes of slices: the SPS, and bits before the order count.
        self._starts: dict[bytes, tuple[_Sps, int]] = {}

    def units_of_extradata(self, extradata: bytes) -> Iterator[memoryview]:
        """See `NalHeaders`; ISO/IEC 14496-15, 8.3.3.1.2."""
        data, at = memoryview(extradata), 23
        if extradata[:1] != b"\1":
            yield from units_of(data, 0)
            return
        for _ in range(extradata[22] if len(extradata) > 22 else 0):
            n_sets = int.from_bytes(data[at + 1 : at + 3], "big")
            at += 3
            for unit, following in sets_with_lengths(data, at, n_sets):
                at = following
                yield unit

    def read(self, unit: memoryview, has_lengths: bool) -> Slice | None:
        """See `NalHeaders`; units of other layers than the first are ignored."""
        if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:
            return None
        kind = unit[0] >> 1 & 63
        if kind < _END_OF_SLICES:
            return self._slice(unit, kind, has_lengths)
        if kind == _SPS:
            bits = set_bits(unit, 2)
            number, sps = _read_sps(bits)
            if bits.left >= 0 and sps.count_bits <= MOST_COUNT_BITS:
                self._starts.clear()
                self._sps[number] = sps
        elif kind == _PPS:
            bits = set_bits(unit, 2)
            number, sps_number = bits.ue(), bits.ue()
            bits.skip(1)
            output_bits, extra_bits = bits.read(1), bits.read(3)
            if bits.left >= 0:
                self._starts.clear()
                self._pps[number] = _Pps(sps_number, output_bits, extra_bits)
        return None

    def _slice(self, unit: memoryview, kind: int, has_lengths: bool) -> Slice | None:
        data, is_damaged = slice_bytes(unit, 2, has_lengths)
        is_irap = kind in _IRAP
        if not is_irap and not is_damaged and len(data) > FRONT and (known := self._known(data)):
            return known
        bits = Bits(data)
        is_first = bits.flag()
        bits.left -= is_irap
        pps = self._pps.get(bits.ue())
        sps = self._sps.get(pps.sps) if pps else None
        if pps is None or sps is None or bits.left < 0:
            return None
        if not is_first or is_damaged:
            return Slice(sps.size)
        bits.left -= pps.extra_bits
        bits.ue()  # slice_type
        bits.left -= pps.output_bits + sps.plane_bits
        n_bits = 8 * len(data) - bits.left
        if not is_irap and n_bits <= MOST_START_BITS:
            self._starts[data[:2]] = (sps, n_bits)
        is_idr = kind in _IDR
        count = 0 if is_idr else bits.read(sps.count_bits)
        if bits.left < 0:
            return Slice(sps.size)
        order = OrderCount(count, 1 << sps.count_bits, is_idr or kind in _BLA)
        return Slice(sps.size, order=order)

    def _known(self, data: bytes) -> Slice | None:
        """`_slice` of a frame whose first bytes are known, as nearly always; else None."""
        if (start := self._starts.get(data[:2])) is None:
            return None
        (size, _, count_bits), at = start
        front, modulus = int.from_bytes(data[:FRONT], "big"), 1 << count_bits
        count = front >> 8 * FRONT - at - count_bits & (modulus - 1)
        return Slice(size, order=OrderCount(count, modulus, False))


def _read_sps(bits: Bits) -> tuple[int, _Sps]:
    """Number and content of a sequence parameter set (7.3.2.2.1 and 7.3.3)."""
    bits.skip(4)
    n_sub_layers = bits.read(3)
    bits.skip(1 + 96)
    present = [(bits.flag(), bits.flag()) for _ in range(n_sub_layers)]
    bits.skip(2 * (8 - n_sub_layers) if n_sub_layers else 0)
    bits.skip(sum(88 * profile + 8 * level for profile, level in present))
    number, chroma = bits.ue(), bits.ue()
    planes = chroma == 3 and bits.flag()
    width, height = bits.ue(), bits.ue()
    unit_x, unit_y = 2 if chroma in (1, 2) else 1, 2 if chroma == 1 else 1
    size = cropped(bits, height, width, unit_y, unit_x)
    bits.ue(), bits.ue()  # bit depths
    return number, _Sps(size, 2 * planes, bits.ue() + 4)
