"""Whether presentation times agree with the order of frames in their headers.

Containers store packets in decoding order. Some writers know only decoding times (raw streams
copied into MP4, some cameras) and store them as presentation times, which is wrong if frames are
reordered. Headers show it: H.264 and HEVC frames have a picture order count (ITU-T H.264, 8.2.1;
H.265, 8.3.1). In MPEG-1, MPEG-2 and MPEG-4 part 2, a B-picture is shown before the frame that is
decoded before it, and all others after it. Only for other codecs that may reorder, the first
packets are decoded.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import av
import numpy as np

from pvio.media.bitstream.packet_kinds import OrderCount, PacketParser
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.demux import demux

# Share of the packets, and of those shown before the one before them, that damage may explain.
_STRAY_PACKETS, _STRAY_EARLIER = 0.05, 0.1
# As many packets of a GOP, and no others, are shown before the one before them: no chance.
_CERTAIN = 2
# Packets at the start, and after risen times, of which all headers are read.
_ALL_READ, _LONG_RISE = 250, 8
# Packets of a rise that are read up to the next keyframe: B-frames show in them, if there are any.
_ENOUGH_OF_RISE = 32
# Packets that are decoded at most to see the order of a codec whose headers are not read.
_MOST_DECODED = 300


class FrameOrder(Protocol):
    """Compares each packet with the one before it in decoding order."""

    def step(self, parser: PacketParser) -> int:
        """Whether a packet is shown before the one before it (-1), after it (1), or unknown (0).

        Args:
            parser: that has just read the packet.
        """


class Steps:
    """`FrameOrder.step` of the packets of a stream, where the times leave it in doubt.

    That is at the start of the stream, and where times have risen for a while, as they do for good
    where they are decoding times: there at the start of each GOP. Elsewhere headers need not be
    read for it.

    Args:
        context: of the stream.
        parser: of its packets.
    """

    def __init__(self, context: Any, parser: PacketParser | None):
        self._order = None if parser is None else _frame_order(context)
        self._parser = parser
        self._n_packets = self._n_risen = self._n_read_of_rise = 0
        self._pts: int | None = None
        self._has_read = self._reads = False

    def needs(self, pts: int | None, is_keyframe: bool) -> bool:
        """Whether the next packet is to be read, so that its step is known.

        Args:
            pts: its presentation time; None where it has none.
            is_keyframe: whether it may bring other parameter sets.
        """
        if self._order is None or self._parser is None:
            return False
        if not is_keyframe and not self._parser.has_order:
            self._reads = False
            return False
        before, self._pts = self._pts, pts
        risen = before is not None and pts is not None and pts > before
        self._n_risen = n_risen = self._n_risen + 1 if risen else 0
        if is_keyframe or not risen:
            self._n_read_of_rise = 0
        self._n_packets += 1
        self._has_read = self._reads
        reads = self._n_packets < _ALL_READ
        if n_risen >= _LONG_RISE and self._n_read_of_rise < _ENOUGH_OF_RISE:
            self._n_read_of_rise += 1
            reads = True
        self._reads = reads
        return reads

    def step(self) -> int:
        """The step of a packet that was needed, once the parser has read it."""
        if self._order is None or self._parser is None:
            return 0
        step = self._order.step(self._parser)
        return step if self._has_read else 0


def _frame_order(context: Any) -> FrameOrder | None:
    codec = context.codec.canonical_name
    if codec == "h264" or (codec == "hevc" and context.has_b_frames):
        return _CountOrder()
    return _TypeOrder() if codec in ("mpeg1video", "mpeg2video", "mpeg4") else None


def times_contradict(
    pts: np.ndarray, steps: np.ndarray, keys: np.ndarray, no_time: int, reorders: bool
) -> bool:
    """Whether presentation times contradict the order of the frames.

    Args:
        pts: int64, of the packets in decoding order.
        steps: int8, of `FrameOrder.step` for each.
        keys: bool, whether a packet is a keyframe.
        no_time: value of a missing time stamp.
        reorders: whether the stream states that frames are reordered.
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
    """Whether the decoder returns frames in another order than that of their time stamps.

    Decodes the first packets; for codecs without a parser.

    Args:
        path: the file.
        stream_index: of the video stream.
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
    """By the type of frames: B-pictures are shown before the frame decoded before them."""

    def __init__(self) -> None:
        self._was_b: bool | None = None

    def step(self, parser: PacketParser) -> int:
        was_b, is_b = self._was_b, parser.is_reordered
        if is_b is None:
            return 0
        self._was_b = is_b
        if was_b is None:
            return 0
        return -1 if is_b and not was_b else 1


class _CountOrder:
    """By the order counts of frames."""

    def __init__(self) -> None:
        self._before: OrderCount | None = None

    def step(self, parser: PacketParser) -> int:
        before, self._before = self._before, parser.order
        if before is None or self._before is None:
            return 0
        value, modulus, restarts, is_field = self._before
        if restarts:
            return 1
        if modulus != before.modulus:
            return 0
        half = modulus // 2
        difference = (value - before.value + half) % modulus - half
        if difference == 0 or (is_field and abs(difference) == 1):  # the other field of a frame
            return 0
        return 1 if difference > 0 else -1
