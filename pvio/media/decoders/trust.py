"""Which frames the errors of a decoder concern."""

from __future__ import annotations

from typing import Any

import av

from pvio.media.decoders.counting import MOST_PENDING


class Trust:
    """Which pictures the decoder's complaints concern.

    A complaint about a packet concerns its own picture and those decoded after it in the same GOP.
    Pictures that lead a keyframe (decoded behind it, shown before it) are a matter of their own:
    they build on the GOP before as well, and no other picture builds on them. So the complaints
    about them when decoding starts at this keyframe concern nobody else.
    """

    def __init__(self) -> None:
        self._keyframe_pts: int | None = None
        self._lost = False
        self._leading_lost = False
        # By pts, of packets whose pictures are still to come: whether they are not to trust.
        self._pending: dict[int, bool] = {}

    def expect(self, packet: Any, starts: bool) -> None:
        """A packet goes to the decoder; it may start a GOP."""
        if starts:
            self._keyframe_pts = packet.pts
            self._lost, self._leading_lost = False, self._lost
        if packet.pts is not None:
            self._pending[packet.pts] = self._leading_lost if self._leads(packet) else self._lost
            if len(self._pending) > MOST_PENDING:  # pictures that never came
                del self._pending[next(iter(self._pending))]

    def interrupt(self) -> None:
        """Packets are missing in front of the next one."""
        self._lost = self._leading_lost = True

    def lose(self, packet: Any) -> None:
        """The decoder complained about a packet."""
        if self._leads(packet):
            self._leading_lost = True
        else:
            self._lost = self._leading_lost = True
        self.distrust(packet)

    def distrust(self, packet: Any) -> None:
        """The picture of a packet is not to trust, whatever that means for others."""
        if packet.pts is not None:
            self._pending[packet.pts] = True

    def distrust_pending(self) -> None:
        """No picture that is still to come is to trust; those of later packets are."""
        self._pending = dict.fromkeys(self._pending, True)

    def is_lost(self, frame: av.VideoFrame) -> bool:
        """Whether a picture that came out is not to trust."""
        return self._lost if frame.pts is None else self._pending.pop(frame.pts, self._lost)

    def _leads(self, packet: Any) -> bool:
        return (
            packet.pts is not None
            and self._keyframe_pts is not None
            and packet.pts < self._keyframe_pts
        )
