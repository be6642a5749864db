"""Parameter sets and slice headers of H.264 (ITU-T H.264, 7.3.2.1, 7.3.2.2 and 7.3.3)."""

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

_SLICES, _IDR, _SPS, _PPS = (1, 2, 5), 5, 7, 8  # table 7-1
# Profiles whose parameter sets state the chroma format.
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


class _Sps(NamedTuple):
    """A sequence parameter set.

    Attributes:
        size: (height, width) of the frames, cropped.
        has_fields: whether frames may be coded as fields.
        plane_bits: in a slice header, of the number of its color plane.
        frame_num_bits: of `frame_num`.
        count_bits: of the order count; 0 if slices have none (7.3.2.1.1, types 1 and 2).
    """

    size: tuple[int, int]
    has_fields: bool
    plane_bits: int
    frame_num_bits: int
    count_bits: int


class H264Headers:
    """See `NalHeaders`."""

    def __init__(self) -> None:
        self._sps: dict[int, _Sps] = {}
        self._pps: dict[int, int] = {}  # the SPS of each
        # By the first two bytes of slices: the SPS, and bits before `frame_num`.
        self._starts: dict[bytes, tuple[_Sps, int]] = {}
        self.has_fields, self.has_order = False, True

    def units_of_extradata(self, extradata: bytes) -> Iterator[memoryview]:
        """See `NalHeaders`; ISO/IEC 14496-15, 5.3.3.1.2."""
        data, at = memoryview(extradata), 5
        if extradata[:1] != b"\1":
            yield from units_of(data, 0)
            return
        for mask in (31, 255):
            n_sets = extradata[at] & mask if at < len(extradata) else 0
            at += 1
            for unit, following in sets_with_lengths(data, at, n_sets):
                at = following
                yield unit

    def read(self, unit: memoryview, has_lengths: bool) -> Slice | None:
        """See `NalHeaders`."""
        kind = unit[0] & 31 if unit else 0
        if kind in _SLICES:
            return self._slice(unit, kind == _IDR, has_lengths)
        if kind == _SPS:
            self._take_sps(set_bits(unit, 1))
        elif kind == _PPS:
            bits = set_bits(unit, 1)
            number, sps = bits.ue(), bits.ue()
            if bits.left >= 0:
                self._pps[number] = sps
                self._starts.clear()
        return None

    def _slice(self, unit: memoryview, is_idr: bool, has_lengths: bool) -> Slice | None:
        data, is_damaged = slice_bytes(unit, 1, has_lengths)
        if not is_idr and not is_damaged and len(data) > FRONT and (known := self._known(data)):
            return known
        bits = Bits(data)
        bits.ue()  # first_mb_in_slice
        bits.ue()  # slice_type
        sps = self._sps.get(self._pps.get(bits.ue(), -1))
        if sps is None or bits.left < 0:
            return None
        size, has_fields, plane_bits, frame_num_bits, count_bits = sps
        if (n_bits := 8 * len(data) - bits.left + plane_bits) <= MOST_START_BITS:
            self._starts[data[:2]] = (sps, n_bits)
        bits.left -= plane_bits
        frame_num, field = bits.read(frame_num_bits), "frame"
        if has_fields and bits.flag():
            field = "bottom" if bits.flag() else "top"
        if bits.left < 0:
            return None
        if not count_bits:
            return Slice(size, field, frame_num)
        if is_idr:
            bits.ue()  # idr_pic_id
        count = bits.read(count_bits)
        if is_damaged or bits.left < 0:
            return Slice(size, field, frame_num)
        order = OrderCount(count, 1 << count_bits, is_idr, field != "frame")
        return Slice(size, field, frame_num, order)

    def _known(self, data: bytes) -> Slice | None:
        """`_slice` of a frame whose first bytes are known, as nearly always; else None."""
        if (start := self._starts.get(data[:2])) is None:
            return None
        (size, has_fields, _, frame_num_bits, count_bits), at = start
        front = int.from_bytes(data[:FRONT], "big")
        at = 8 * FRONT - at - frame_num_bits
        frame_num = front >> at & ((1 << frame_num_bits) - 1)
        if has_fields:
            at -= 1
            if front >> at & 1:
                return None
        if not count_bits:
            return Slice(size, "frame", frame_num)
        modulus = 1 << count_bits
        order = OrderCount(front >> at - count_bits & (modulus - 1), modulus, False)
        return Slice(size, "frame", frame_num, order)

    def _take_sps(self, bits: Bits) -> None:
        number, sps = _read_sps(bits)
        if bits.left >= 0 and max(sps.frame_num_bits, sps.count_bits) <= MOST_COUNT_BITS:
            self._sps[number] = sps
            self._starts.clear()
            self.has_fields = any(each.has_fields for each in self._sps.values())
            self.has_order = any(each.count_bits for each in self._sps.values())


def _read_sps(bits: Bits) -> tuple[int, _Sps]:
    """Number and content of a sequence parameter set (7.3.2.1.1)."""
    profile = bits.read(8)
    bits.skip(16)
    number = bits.ue()
    chroma, planes = 1, False
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bits.flag()
        bits.ue(), bits.ue()  # bit depths
        bits.skip(1)
        if bits.flag():
            for each in range(12 if chroma == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if each < 6 else 64)
    frame_num_bits, count_bits = bits.ue() + 4, 0
    count_type = bits.ue()
    if count_type == 0:
        count_bits = bits.ue() + 4
    elif count_type == 1:
        bits.skip(1)
        bits.ue(), bits.ue()
        for _ in range(min(255, bits.ue())):
            bits.ue()
    bits.ue()  # reference frames
    bits.skip(1)
    width, rows = 16 * (bits.ue() + 1), bits.ue() + 1
    frames_only = bits.flag()
    bits.skip(1 if frames_only else 2)
    n_fields = 1 if frames_only else 2
    unit_x, unit_y = 2 if chroma in (1, 2) else 1, (2 if chroma == 1 else 1) * n_fields
    size = cropped(bits, 16 * rows * n_fields, width, unit_y, unit_x)
    return number, _Sps(size, not frames_only, 2 * planes, frame_num_bits, count_bits)


def _skip_scaling_list(bits: Bits, length: int) -> None:
    """7.3.2.1.1.1."""
    last = following = 8
    for _ in range(length):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
