"""Kinds of packets, and the interface of packet parsers."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


class PacketKind(enum.Enum):
    """Whether a packet is a frame.

    Attributes:
        FRAME: a frame, or the first field of one.
        SECOND_FIELD: completes the frame of the previous packet.
        HIDDEN: not shown; other frames refer to it.
        REPEATED: the previous frame is shown once more; decoders return no frame for it.
    """

    FRAME = enum.auto()
    SECOND_FIELD = enum.auto()
    HIDDEN = enum.auto()
    REPEATED = enum.auto()


class OrderCount(NamedTuple):
    """Picture order count (ITU-T H.264, 8.2.1; H.265, 8.3.1).

    Attributes:
        value: of the count, modulo `modulus`.
        modulus: a power of two.
        restarts: whether the count restarts; all frames decoded before are shown before.
        is_field: whether it belongs to a field, half of a frame.
    """

    value: int
    modulus: int
    restarts: bool
    is_field: bool = False


class PacketParser:
    """Reads the headers of a stream's packets, in decoding order; nothing is decoded.

    Each packet is read once. The attributes describe the last one.

    Args:
        extradata: the stream's decoder configuration, b"" if there is none.

    Attributes:
        size: (height, width) that the headers state for the last packet; None if not known.
        all_matter: whether packets other than keyframes need to be read for kinds and sizes.
        is_reordered: whether the last packet is a B-picture, shown before the one decoded before
            it (MPEG-1, 2 and 4); None if not known.
        order: picture order count of the last packet (H.264 and HEVC); None if not known.
        has_order: whether packets can have one, by the parameter sets so far.
    """

    size: tuple[int, int] | None = None
    all_matter = True
    is_reordered: bool | None = None
    order: OrderCount | None = None
    has_order = True

    def __init__(self, extradata: bytes = b""):
        del extradata  # used by subclasses

    def read(self, packet: Any) -> PacketKind:
        """The kind of a packet; a damaged one counts as a frame."""
        try:
            return self._read(packet)
        except (EOFError, IndexError):
            return PacketKind.FRAME

    def restart(self) -> None:
        """Forget the packets so far: the next one follows a seek."""

    def _read(self, packet: Any) -> PacketKind:
        raise NotImplementedError
