"""Ranks of frames that timestamps do not tell: frames are counted, and repeated ones known."""

from __future__ import annotations

from typing import Any

import av

from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser
from pvio.media.index.frame_index import FrameIndex

# More packets than any decoder holds back.
MOST_PENDING = 1000
# As many pictures at most are decoded before one that is shown before them (H.264, H.265).
_MOST_REORDERED = 16


class Repeats:
    """Which frames are the one before again: their packets say so, and give no picture.

    Where pictures are counted, such a packet is shown in front of the next one that is not decoded
    out of order.

    Args:
        index: of the video.
    """

    def __init__(self, index: FrameIndex) -> None:
        self._index = index
        self._ranks: set[int] = set()
        self._waits = False  # for the packet that tells the rank

    def take(self, packet: Any, kind: PacketKind, parser: PacketParser | None) -> None:
        """The next packet in decoding order, of which `parser` knows more.

        Its time is its number where pictures are counted.
        """
        pts = self._index.pts
        if self._index.pts_identify_frames:
            if kind is PacketKind.REPEATED and packet.pts is not None:
                rank = int(pts.searchsorted(packet.pts))
                if rank < len(pts) and pts[rank] == packet.pts:
                    self._ranks.add(rank)
        elif parser is not None and not (packet.size and parser.is_reordered):
            if self._waits:
                self._ranks.add(packet.pts - 1)
            self._waits = kind is PacketKind.REPEATED

    def cover(self, first: int, last: int) -> bool:
        """Whether all frames from one to another are such."""
        return all(rank in self._ranks for rank in range(first, last + 1))


class FrameCount:
    """Ranks of pictures that are counted, as their times do not tell them.

    The packets are numbered in decoding order, and pictures come in the order in which they are
    shown. All pictures of a GOP, those that lead its keyframe included, come after all pictures of
    the GOPs before. So the first one to come has the number of the keyframe as its rank, whatever
    was lost before. After a loss within a GOP ranks are not known up to the next keyframe.

    Args:
        n_frames: of the video.
        repeats: frames of which no picture comes.
    """

    def __init__(self, n_frames: int, repeats: Repeats) -> None:
        self._n_frames = n_frames
        self._repeats = repeats
        self._gop = 0  # number of its keyframe
        self._shown_gop = -1
        self._next = 0
        self._size = (0, 0)
        # By the number of a packet whose picture is still to come: its GOP.
        self._pending: dict[int, int] = {}
        # By GOP: from which packet on the order of the pictures is in doubt.
        self._in_doubt: dict[int, int] = {}

    def expect(self, packet: Any, starts: bool) -> None:
        """A packet, whose time is its number, goes to the decoder; it may start a GOP."""
        if packet.pts is None:
            return
        if starts:
            self._gop = packet.pts
        self._pending[packet.pts] = self._gop
        if len(self._pending) > MOST_PENDING:  # pictures that never came
            del self._pending[next(iter(self._pending))]

    def doubt(self, packet: Any) -> None:
        """A picture may be lost at this packet or, when it is not yet expected, in front of it."""
        if packet.pts is not None:
            self._in_doubt.setdefault(self._gop, packet.pts - _MOST_REORDERED)

    def rank(self, frame: av.VideoFrame) -> int | None:
        """Rank of the next picture; None when it is not known."""
        number = self._next if frame.pts is None else frame.pts
        gop = self._pending.pop(number, self._gop)
        if gop != self._shown_gop:
            size = (frame.height, frame.width)
            # Decoders lose the pictures that they hold back where the size changes.
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
