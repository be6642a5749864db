"""Maps logged decoder errors to frames."""

from __future__ import annotations

from typing import Any

import av

from pvio.media.decoders.counting import MOST_PENDING


class Trust:
    """Maps logged decoder errors to the frames that they affect.

    An error at a packet affects its own frame and those decoded after it in the same GOP. Frames
    that lead a keyframe (decoded after it, shown before it) are different: they also refer to the
    GOP before, and no other frame refers to them. So errors of these frames, when decoding starts
    at this keyframe, affect no other frame.
    """

    def __init__(self) -> None:
        self._keyframe_pts: int | None = None
        self._lost = False
        self._leading_lost = False
        # By pts, of packets whose frames are still to come: whether the frame is suspect.
        self._pending: dict[int, bool] = {}

    def expect(self, packet: Any, starts: bool) -> None:
        """Register a packet for the decoder; it may start a GOP."""
        if starts:
            self._keyframe_pts = packet.pts
            self._lost, self._leading_lost = False, self._lost
        if packet.pts is not None:
            self._pending[packet.pts] = self._leading_lost if self._leads(packet) else self._lost
            if len(self._pending) > MOST_PENDING:  # frames that never came
                del self._pending[next(iter(self._pending))]

    def interrupt(self) -> None:
        """Note that packets are missing before the next one."""
        self._lost = self._leading_lost = True

    def lose(self, packet: Any) -> None:
        """Note that the decoder reported an error at a packet."""
        if self._leads(packet):
            self._leading_lost = True
        else:
            self._lost = self._leading_lost = True
        self.distrust(packet)

    def distrust(self, packet: Any) -> None:
        """Mark the frame of a packet as suspect, and no other frame."""
        if packet.pts is not None:
            self._pending[packet.pts] = True

    def distrust_pending(self) -> None:
        """Mark all frames that are still to come as suspect, but not those of later packets."""
        self._pending = dict.fromkeys(self._pending, True)

    def is_suspect(self, frame: av.VideoFrame) -> bool:
        """Whether a decoded frame is suspect."""
        return self._lost if frame.pts is None else self._pending.pop(frame.pts, self._lost)

    def _leads(self, packet: Any) -> bool:
        return (
            packet.pts is not None
            and self._keyframe_pts is not None
            and packet.pts < self._keyframe_pts
        )
