"""Whether packets are shown in the order of their times, from the headers of their pictures.

Containers hold packets in decoding order. Where pictures are reordered, presentation times must say
so; writers that know decoding times only (of raw streams copied into MP4, in some cameras) store
these as presentation times. The headers tell it: H.264 and HEVC pictures carry an order count
(ITU-T H.264, 8.2.1; H.265, 8.3.1); in MPEG-1, MPEG-2 and MPEG-4 part 2 a B-picture is shown before
the picture that is decoded before it, and all others after it. Nothing is decoded, but for a piece
of the rare streams of other codecs that may reorder.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import av
import numpy as np

from pvio.media.bits import Bits, without_escapes
from pvio.media.container import open_container
from pvio.media.demux import demux
from pvio.media.nal import is_damaged, length_size

# Bytes of a slice that hold what is read of its header.
_SLICE_BYTES = 48
# Share of the packets, and of those shown before the one before them, that damage may explain.
_STRAY_PACKETS, _STRAY_EARLIER = 0.05, 0.1
# As many packets of a GOP, and no others, are shown before the one before them: no chance.
_CERTAIN = 2
# Packets at the start, and behind risen times, of which all headers are read.
_ALL_READ, _LONG_RISE = 500, 8
# Packets that are decoded at most to see the order of a codec whose headers are not read.
_MOST_DECODED = 300
_START_CODE = re.compile(rb"\x00\x00\x01")


class PictureOrder(Protocol):
    """Compares each packet with the one before it in decoding order."""

    def step(self, packet: Any) -> int:
        """Whether a packet is shown before the one before it (-1), after it (1), or unknown (0)."""


class Steps:
    """`PictureOrder.step` of the packets of a stream, where the times leave it in doubt.

    That is at the start of the stream, and where times have risen for a while, as they do for good
    where they are decoding times. Elsewhere headers are not read: that takes up to 20 us each.

    Args:
        context: of the stream.
    """

    def __init__(self, context: Any):
        self._order = _picture_order(context)
        self._n_packets = self._n_risen = 0
        self._pts: int | None = None
        self._has_read = False

    def step(self, packet: Any) -> int:
        """Whether a packet is shown before the one before it (-1), after it (1), or unknown (0)."""
        if self._order is None:
            return 0
        risen = self._pts is not None and packet.pts is not None and packet.pts > self._pts
        self._n_risen = self._n_risen + 1 if risen else 0
        self._pts = packet.pts
        self._n_packets += 1
        follows = self._has_read
        self._has_read = self._n_packets < _ALL_READ or self._n_risen >= _LONG_RISE
        if not self._has_read:
            return 0
        step = self._order.step(packet)
        return step if follows else 0


def _picture_order(context: Any) -> PictureOrder | None:
    codec, extradata = context.codec.canonical_name, context.extradata or b""
    if codec == "h264":
        return _H264Order(length_size(codec, extradata) or 0, extradata)
    if codec == "hevc" and context.has_b_frames:
        return _HEVCOrder(length_size(codec, extradata) or 0, extradata)
    if codec in ("mpeg1video", "mpeg2video"):
        return _TypeOrder(rb"\x00\x00\x01\x00..", 3, 7, 3)
    if codec == "mpeg4":
        return _TypeOrder(rb"\x00\x00\x01\xb6.", 6, 3, 2)
    return None


def times_contradict(
    pts: np.ndarray, steps: np.ndarray, keys: np.ndarray, no_time: int, reorders: bool
) -> bool:
    """Whether presentation times are in another order than the pictures.

    Args:
        pts: int64, of the packets in decoding order.
        steps: int8, of `PictureOrder.step` for each.
        keys: bool, whether a packet is a keyframe.
        no_time: what stands for no time.
        reorders: whether the stream says that pictures are reordered.
    """
    if len(pts) < 2:
        return False
    rises = np.sign(np.diff(pts))
    steps = np.where((pts[1:] == no_time) | (pts[:-1] == no_time) | (rises == 0), 0, steps[1:])
    wrong, earlier = (steps != 0) & (steps != rises), steps < 0
    # Damage changes single headers.
    if wrong.sum() > _STRAY_PACKETS * (steps != 0).sum():
        return True
    if not reorders:
        return False
    if (wrong & earlier).sum() > _STRAY_EARLIER * earlier.sum():
        return True
    # A part of a joined file, perhaps a short one: GOPs without a step that is right.
    gop = np.cumsum(keys)[1:]
    n_wrong = np.bincount(gop[wrong & earlier], minlength=int(gop[-1]) + 1)
    n_right = np.bincount(gop[~wrong & earlier], minlength=int(gop[-1]) + 1)
    return bool(((n_wrong >= _CERTAIN) & (n_right == 0)).any())


def decodes_out_of_order(path: str, stream_index: int) -> bool:
    """Whether the decoder hands out pictures in another order than that of their times.

    Of the first packets only; for codecs whose headers are not read here.
    """
    before = None
    with contextlib.suppress(av.error.FFmpegError), open_container(path) as container:
        stream = container.streams[stream_index]
        stream.codec_context.thread_count = 1
        for number, packet in enumerate(demux(container, stream)):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    if frame.pts is not None and before is not None and frame.pts < before:
                        return True
                    before = frame.pts
            if number == _MOST_DECODED:
                break
    return False


class _TypeOrder:
    """By the type of pictures, which a pattern finds in the byte `at`.

    Args:
        pattern: up to the byte that holds the type.
        shift, mask: where in this byte the type is.
        b: the type of B-pictures.
    """

    def __init__(self, pattern: bytes, shift: int, mask: int, b: int):
        self._pattern = re.compile(pattern, re.DOTALL)
        self._shift, self._mask, self._b = shift, mask, b
        self._was_b: bool | None = None

    def step(self, packet: Any) -> int:
        found = self._pattern.search(bytes(packet))
        if found is None:
            return 0
        is_b = found[0][-1] >> self._shift & self._mask == self._b
        was_b, self._was_b = self._was_b, is_b
        if was_b is None:
            return 0
        return -1 if is_b and not was_b else 1


class _Picture(NamedTuple):
    """The order count of a picture.

    Attributes:
        value: of the count, modulo `modulus`.
        modulus: a power of two.
        restarts: whether the count begins anew, so that all pictures before are shown before.
        is_field: whether it is a field, half of a frame.
    """

    value: int
    modulus: int
    restarts: bool
    is_field: bool = False


class _CountOrder:
    """By the order counts of pictures that are made of NAL units.

    Args:
        size: bytes of the lengths in front of units, 0 for units between start codes.
        extradata: with parameter sets.
    """

    def __init__(self, size: int, extradata: bytes):
        self._size = size
        self._before: _Picture | None = None
        for unit in self._sets(extradata):
            self._picture(unit)

    def step(self, packet: Any) -> int:
        if self._never_reorders() and not packet.is_keyframe:
            return 0
        data, picture = bytes(packet), None
        if not is_damaged(data, self._size):
            picture = next(filter(None, map(self._picture, _units(data, self._size))), None)
        before, self._before = self._before, picture
        if picture is None or before is None:
            return 0
        if picture.restarts:
            return 1
        if picture.modulus != before.modulus:
            return 0
        half = picture.modulus // 2
        ahead = (picture.value - before.value + half) % picture.modulus - half
        if ahead == 0 or (picture.is_field and abs(ahead) == 1):  # the other field of a frame
            return 0
        return 1 if ahead > 0 else -1

    def _never_reorders(self) -> bool:
        """Whether the parameter sets, of which keyframes may bring others, exclude reordering."""
        return False

    def _sets(self, extradata: bytes) -> Iterator[bytes]:
        """The parameter sets that are stored outside of packets."""
        if extradata[:1] != b"\1":
            yield from _units(extradata, 0)
            return
        # Each set has its length in 2 bytes in front; what is between is passed over.
        yield from self._configuration(extradata)

    def _configuration(self, extradata: bytes) -> Iterator[bytes]:
        """The parameter sets of a decoder configuration (ISO/IEC 14496-15)."""
        raise NotImplementedError

    def _picture(self, unit: bytes) -> _Picture | None:
        """The picture that a slice begins; parameter sets are remembered."""
        raise NotImplementedError


class _H264Order(_CountOrder):
    """ITU-T H.264, 7.3: SPS, PPS and slice header."""

    def __init__(self, size: int, extradata: bytes):
        # SPS by number: bits of frame_num, bits of the count (0: none), frames only, colour planes.
        self._sps: dict[int, tuple[int, int, bool, bool]] = {}
        self._pps: dict[int, int] = {}
        super().__init__(size, extradata)

    def _configuration(self, extradata: bytes) -> Iterator[bytes]:
        at = 5
        for mask in (31, 255):
            n_sets = extradata[at] & mask if at < len(extradata) else 0
            at += 1
            for _ in range(n_sets):
                start = at + 2
                at = start + int.from_bytes(extradata[at:start], "big")
                yield extradata[start:at]

    def _never_reorders(self) -> bool:
        return bool(self._sps) and not any(count_bits for _, count_bits, *_ in self._sps.values())

    def _picture(self, unit: bytes) -> _Picture | None:
        kind = unit[0] & 31 if unit else 0
        if kind == 7:
            self._read_sps(Bits(without_escapes(unit[1:])))
        elif kind == 8:
            bits = Bits(without_escapes(unit[1:]))
            self._pps[bits.ue()] = bits.ue()
        elif kind in (1, 5):
            return self._read_slice(unit, is_idr=kind == 5)
        return None

    def _read_slice(self, unit: bytes, is_idr: bool) -> _Picture | None:
        bits = Bits(without_escapes(unit[1:_SLICE_BYTES]))
        bits.ue()  # first macroblock
        bits.ue()  # type
        sps = self._sps.get(self._pps.get(bits.ue(), -1))
        if sps is None or sps[1] == 0:
            return None
        frame_bits, count_bits, frames_only, planes = sps
        bits.skip(2 * planes + frame_bits)
        is_field = not frames_only and bool(bits.read(1))
        bits.skip(is_field)
        if is_idr:
            bits.ue()
        return _Picture(bits.read(count_bits), 1 << count_bits, is_idr, is_field)

    def _read_sps(self, bits: Bits) -> None:
        profile = bits.read(8)
        bits.skip(16)
        number = bits.ue()
        planes = False
        if profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
            chroma = bits.ue()
            planes = chroma == 3 and bool(bits.read(1))
            bits.ue(), bits.ue()  # bit depths
            bits.skip(1)
            if bits.read(1):
                for each in range(12 if chroma == 3 else 8):
                    if bits.read(1):
                        _skip_scaling_list(bits, 16 if each < 6 else 64)
        frame_bits = bits.ue() + 4
        count_type = bits.ue()
        count_bits = 0
        if count_type == 0:
            count_bits = bits.ue() + 4
        elif count_type == 1:
            bits.skip(1)
            bits.se(), bits.se()
            for _ in range(min(255, bits.ue())):
                bits.se()
        bits.ue()  # reference frames
        bits.skip(1)
        bits.ue(), bits.ue()  # size
        frames_only = bool(bits.read(1))
        if bits.left >= 0 and frame_bits <= 16 and count_bits <= 16:
            self._sps[number] = (frame_bits, count_bits, frames_only, planes)


class _HEVCOrder(_CountOrder):
    """ITU-T H.265, 7.3: SPS, PPS and slice segment header."""

    def __init__(self, size: int, extradata: bytes):
        # SPS by number: bits of the count, colour planes.
        self._sps: dict[int, tuple[int, bool]] = {}
        # PPS by number: its SPS, whether slices have an output flag, their extra bits.
        self._pps: dict[int, tuple[int, bool, int]] = {}
        super().__init__(size, extradata)

    def _configuration(self, extradata: bytes) -> Iterator[bytes]:
        at = 23
        for _ in range(extradata[22] if len(extradata) > 22 else 0):
            n_sets = int.from_bytes(extradata[at + 1 : at + 3], "big")
            at += 3
            for _ in range(n_sets):
                start = at + 2
                at = start + int.from_bytes(extradata[at:start], "big")
                yield extradata[start:at]
                if at >= len(extradata):
                    return

    def _picture(self, unit: bytes) -> _Picture | None:
        if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:  # of another layer
            return None
        kind = unit[0] >> 1 & 63
        if kind == 33:
            self._read_sps(Bits(without_escapes(unit[2:])))
        elif kind == 34:
            bits = Bits(without_escapes(unit[2:]))
            number, sps = bits.ue(), bits.ue()
            bits.skip(1)
            self._pps[number] = (sps, bool(bits.read(1)), bits.read(3))
        elif kind < 32 and unit[2] & 0x80:  # the first slice of a picture
            return self._read_slice(kind, unit)
        return None

    def _read_slice(self, kind: int, unit: bytes) -> _Picture | None:
        bits = Bits(without_escapes(unit[2:_SLICE_BYTES]))
        bits.skip(1 + (16 <= kind <= 23))
        sps_number, has_output_flag, extra = self._pps.get(bits.ue(), (-1, False, 0))
        if (sps := self._sps.get(sps_number)) is None:
            return None
        count_bits, planes = sps
        bits.skip(extra)
        bits.ue()  # type
        bits.skip(has_output_flag + 2 * planes)
        is_idr = kind in (19, 20)
        count = 0 if is_idr else bits.read(count_bits)
        return _Picture(count, 1 << count_bits, restarts=is_idr or 16 <= kind <= 18)

    def _read_sps(self, bits: Bits) -> None:
        bits.skip(4)
        n_sub_layers = bits.read(3)
        bits.skip(1 + 96)
        present = [(bits.read(1), bits.read(1)) for _ in range(n_sub_layers)]
        bits.skip(2 * (8 - n_sub_layers) if n_sub_layers else 0)
        bits.skip(sum(88 * profile + 8 * level for profile, level in present))
        number = bits.ue()
        planes = bits.ue() == 3 and bool(bits.read(1))
        bits.ue(), bits.ue()  # size
        if bits.read(1):
            for _ in range(4):
                bits.ue()
        bits.ue(), bits.ue()  # bit depths
        count_bits = bits.ue() + 4
        if bits.left >= 0 and count_bits <= 16:
            self._sps[number] = (count_bits, planes)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    """ITU-T H.264, 7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _units(data: bytes, size: int) -> Iterator[bytes]:
    """The NAL units of a packet, see `length_size`."""
    at = 0
    if size == 0:
        starts = (found.end() for found in _START_CODE.finditer(data))
        at = next(starts, len(data))
        for start in starts:
            yield data[at : start - 3]
            at = start
        yield data[at:]
        return
    while at + size < len(data):
        start = at + size
        at = start + int.from_bytes(data[at:start], "big")
        yield data[start:at]
