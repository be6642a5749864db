"""Parameter sets of H.264 and HEVC: what they say of the size of frames, and of fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pvio.media.bits import BitReader

_START_CODE = re.compile(rb"\x00\x00\x01")
# Profiles of H.264 whose parameter sets tell the chroma format (7.3.2.1.1).
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_SPS, _PPS = {"h264": 7, "hevc": 33}, {"h264": 8, "hevc": 34}
# Enough for the part of a slice header that is read here, with emulation prevention bytes.
_SLICE_HEADER = 32


class Sequence(NamedTuple):
    """What a sequence parameter set says.

    Attributes:
        size: (height, width) of the pictures, cropped.
        has_fields: whether pictures may be coded as fields (H.264).
        frame_num_bits: of `frame_num` (H.264).
        colour_planes: whether each plane has slices of its own.
    """

    size: tuple[int, int]
    has_fields: bool = False
    frame_num_bits: int = 0
    colour_planes: bool = False


class Slice(NamedTuple):
    """What the header of a slice says of its picture.

    Attributes:
        sequence: that it follows.
        frame_num: as H.264 has it; 0 in HEVC.
        field: "frame", or "top" or "bottom" for a field.
    """

    sequence: Sequence
    frame_num: int = 0
    field: str = "frame"


@dataclass
class ParameterSets:
    """The parameter sets of a stream that were met so far.

    Args:
        codec: "h264" or "hevc".
    """

    codec: str
    sequences: dict[int, Sequence] = field(default_factory=dict)
    pictures: dict[int, int] = field(default_factory=dict)

    @property
    def has_fields(self) -> bool:
        """Whether any picture may be coded as a field."""
        return any(sequence.has_fields for sequence in self.sequences.values())

    def take(self, unit: memoryview) -> None:
        """Keep a unit that is a parameter set; others are passed over, and so are damaged ones."""
        kind = unit_type(unit, self.codec)
        if kind not in (_SPS[self.codec], _PPS[self.codec]):
            return
        header = 1 if self.codec == "h264" else 2
        bits = BitReader(bytes(unit[header:]).replace(b"\0\0\3", b"\0\0"))
        try:
            if kind == _PPS[self.codec]:
                number = bits.exp_golomb()
                self.pictures[number] = bits.exp_golomb()
            else:
                number, sequence = _READ[self.codec](bits)
                self.sequences[number] = sequence
        except EOFError:
            return

    def slice_of(self, unit: memoryview) -> Slice | None:
        """The header of a slice; None for other units, and where its parameter sets are absent."""
        kind = unit_type(unit, self.codec)
        is_h264 = self.codec == "h264"
        if kind not in ((1, 2, 5) if is_h264 else range(32)):
            return None
        data = bytes(unit[1 if is_h264 else 2 : _SLICE_HEADER]).replace(b"\0\0\3", b"\0\0")
        bits = BitReader(data)
        try:
            if is_h264:
                bits.exp_golomb()  # first_mb_in_slice
                bits.exp_golomb()  # slice_type
            else:
                bits.skip(2 if 16 <= kind <= 23 else 1)
            sequence = self.sequences.get(self.pictures.get(bits.exp_golomb(), -1))
            if sequence is None or not is_h264:
                return sequence and Slice(sequence)
            bits.skip(2 * sequence.colour_planes)
            frame_num = bits.bits(sequence.frame_num_bits)
            if not sequence.has_fields or not bits.flag():
                return Slice(sequence, frame_num)
            return Slice(sequence, frame_num, "bottom" if bits.flag() else "top")
        except EOFError:
            return None


def unit_type(unit: memoryview, codec: str) -> int:
    """nal_unit_type; -1 for units of other layers than the first one."""
    if len(unit) < 2:
        return -1
    if codec == "h264":
        return unit[0] & 31
    layer = (unit[0] & 1) << 5 | unit[1] >> 3
    return -1 if layer else unit[0] >> 1 & 63


def units_of(packet: memoryview, length_size: int) -> Iterator[memoryview]:
    """The units of a packet, with lengths of `length_size` bytes or (0) between start codes."""
    if length_size == 0:
        start = -1
        for match in _START_CODE.finditer(packet):
            if start >= 0:
                yield packet[start : match.start()]
            start = match.end()
        if start >= 0:
            yield packet[start:]
        return
    at = 0
    while at + length_size < len(packet):
        start = at + length_size
        at = start + int.from_bytes(packet[at:start], "big")
        yield packet[start:at]


def units_of_extradata(extradata: bytes, codec: str) -> Iterator[memoryview]:
    """The units of a decoder configuration (ISO/IEC 14496-15), or between start codes."""
    data = memoryview(extradata)
    if not extradata or extradata[0] != 1:
        yield from units_of(data, 0)
        return
    at = 5 if codec == "h264" else 23
    n_arrays = 2 if codec == "h264" else int.from_bytes(data[22:23], "big")
    for _ in range(n_arrays):
        if codec == "h264":
            n_units, at = int.from_bytes(data[at : at + 1], "big") & 31, at + 1
        else:
            n_units, at = int.from_bytes(data[at + 1 : at + 3], "big"), at + 3
        for _ in range(n_units):
            start = at + 2
            at = start + int.from_bytes(data[at:start], "big")
            yield data[start:at]


def _h264_sequence(bits: BitReader) -> tuple[int, Sequence]:
    """ITU-T H.264, 7.3.2.1.1."""
    profile = bits.bits(8)
    bits.skip(16)
    number = bits.exp_golomb()
    chroma, planes = 1, False
    if profile in _HIGH_PROFILES:
        chroma = bits.exp_golomb()
        planes = chroma == 3 and bits.flag()
        bits.exp_golomb()  # bit depths
        bits.exp_golomb()
        bits.skip(1)
        if bits.flag():
            for i in range(12 if chroma == 3 else 8):
                if bits.flag():
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits = bits.exp_golomb() + 4
    if (order := bits.exp_golomb()) == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.skip(1)
        bits.exp_golomb()
        bits.exp_golomb()
        for _ in range(min(bits.exp_golomb(), 255)):
            bits.exp_golomb()
    bits.exp_golomb()  # reference frames
    bits.skip(1)
    width = 16 * (bits.exp_golomb() + 1)
    rows = bits.exp_golomb() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.skip(1)
    bits.skip(1)
    height = 16 * rows * (1 if frames_only else 2)
    unit_x = 2 if chroma in (1, 2) else 1
    unit_y = (2 if chroma == 1 else 1) * (1 if frames_only else 2)
    size = _cropped(bits, height, width, unit_y, unit_x)
    return number, Sequence(size, not frames_only, frame_num_bits, planes)


def _skip_scaling_list(bits: BitReader, length: int) -> None:
    last = following = 8
    for _ in range(length):
        if following:
            following = (last + bits.signed_exp_golomb()) % 256
        last = following or last


def _hevc_sequence(bits: BitReader) -> tuple[int, Sequence]:
    """ITU-T H.265, 7.3.2.2.1 and 7.3.3."""
    bits.skip(4)
    n_more_layers = bits.bits(3)
    bits.skip(1 + 96)
    present = [(bits.flag(), bits.flag()) for _ in range(n_more_layers)]
    if n_more_layers:
        bits.skip(2 * (8 - n_more_layers))
    for profile, level in present:
        bits.skip(88 * profile + 8 * level)
    number = bits.exp_golomb()
    chroma = bits.exp_golomb()
    planes = chroma == 3 and bits.flag()
    width, height = bits.exp_golomb(), bits.exp_golomb()
    unit_x, unit_y = 2 if chroma in (1, 2) else 1, 2 if chroma == 1 else 1
    return number, Sequence(_cropped(bits, height, width, unit_y, unit_x), colour_planes=planes)


def _cropped(bits: BitReader, height: int, width: int, unit_y: int, unit_x: int) -> tuple[int, int]:
    if bits.flag():
        left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
        height, width = height - unit_y * (top + bottom), width - unit_x * (left + right)
    return height, width


_READ = {"h264": _h264_sequence, "hevc": _hevc_sequence}
