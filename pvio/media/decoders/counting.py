"""Frame numbers for streams whose timestamps do not identify frames: frames are counted."""

from __future__ import annotations

from typing import Any

import av

from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser
from pvio.media.index.frame_index import FrameIndex

# More packets than any decoder holds back.
MOST_PENDING = 1000
# At most this many frames are decoded before a frame that is shown before them (H.264, H.265).
_MOST_REORDERED = 16


class Repeats:
    """Frames that repeat the frame before: the decoder returns no frame for their packets.

    Where frames are counted, such a packet is shown before the next one that is not decoded out of
    order.

    Args:
        index: of the video.
    """

    def __init__(self, index: FrameIndex) -> None:
        self._index = index
        self._numbers: set[int] = set()
        self._waits = False  # for the packet that determines the frame number

    def take(self, packet: Any, kind: PacketKind, parser: PacketParser | None) -> None:
        """Register the next packet in decoding order, which `parser` has read.

        Its time is its number where frames are counted.
        """
        pts = self._index.pts
        if self._index.pts_identify_frames:
            if kind is PacketKind.REPEATED and packet.pts is not None:
                number = int(pts.searchsorted(packet.pts))
                if number < len(pts) and pts[number] == packet.pts:
                    self._numbers.add(number)
        elif parser is not None and not (packet.size and parser.is_reordered):
            if self._waits:
                self._numbers.add(packet.pts - 1)
            self._waits = kind is PacketKind.REPEATED

    def cover(self, first: int, last: int) -> bool:
        """Whether all frames from `first` to `last` repeat the frame before."""
        return all(number in self._numbers for number in range(first, last + 1))


class FrameCount:
    """Counts frames, where timestamps do not identify them.

    Packets are numbered in decoding order, and frames come in the order in which they are shown.
    All frames of a GOP, with those that lead its keyframe, come after all frames of the GOPs
    before. So the first frame of a GOP has the number of the keyframe, whatever was lost before.
    After a loss within a GOP, frame numbers are unknown up to the next keyframe.

    Args:
        n_frames: of the video.
        repeats: frames that the decoder does not return.
    """

    def __init__(self, n_frames: int, repeats: Repeats) -> None:
        self._n_frames = n_frames
        self._repeats = repeats
        self._gop = 0  # number of its keyframe
        self._shown_gop = -1
        self._next = 0
        self._size = (0, 0)
        # By the number of a packet whose frame is still to come: its GOP.
        self._pending: dict[int, int] = {}
        # By GOP: from which packet on the order of the frames is in doubt.
        self._in_doubt: dict[int, int] = {}

    def expect(self, packet: Any, starts: bool) -> None:
        """Register a packet for the decoder, whose time is its number; it may start a GOP."""
        if packet.pts is None:
            return
        if starts:
            self._gop = packet.pts
        self._pending[packet.pts] = self._gop
        if len(self._pending) > MOST_PENDING:  # frames that never came
            del self._pending[next(iter(self._pending))]

    def doubt(self, packet: Any) -> None:
        """Note that a frame may be lost at this packet, or before it if it is not yet expected."""
        if packet.pts is not None:
            self._in_doubt.setdefault(self._gop, packet.pts - _MOST_REORDERED)

    def frame_number(self, frame: av.VideoFrame) -> int | None:
        """The number of the next frame; None when it is not known."""
        number = self._next if frame.pts is None else frame.pts
        gop = self._pending.pop(number, self._gop)
        if gop != self._shown_gop:
            size = (frame.height, frame.width)
            # Where the size changes, decoders lose the frames that they hold back.
            lost = self._shown_gop in self._in_doubt or size != self._size
            if lost or gop - self._next > _MOST_REORDERED:
                self._next = gop
            self._shown_gop, self._size = gop, size
        if number >= self._in_doubt.get(gop, self._n_frames):
            return None
        while self._repeats.cover(self._next, self._next):
            self._next += 1
        self._next += 1
        return self._next - 1
