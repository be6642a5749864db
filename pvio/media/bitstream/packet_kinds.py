"""What a packet is for whoever counts frames, and how parsers of packets look."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple


class PacketKind(enum.Enum):
    """What comes of a packet.

    Attributes:
        FRAME: a frame of its own, or the first field of one.
        SECOND_FIELD: it completes the frame of the packet before.
        HIDDEN: nothing is shown; other frames refer to it.
        REPEATED: the frame before is shown once more, of which decoders give no picture.
    """

    FRAME = enum.auto()
    SECOND_FIELD = enum.auto()
    HIDDEN = enum.auto()
    REPEATED = enum.auto()


class OrderCount(NamedTuple):
    """The order count of a picture (ITU-T H.264, 8.2.1; H.265, 8.3.1).

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


class PacketParser:
    """Reads the headers of a stream's packets, in decoding order; nothing is decoded.

    Each packet is read once. What its headers tell is kept up to the next one, for whoever wants
    to know more than the kind.

    Args:
        extradata: the stream's decoder configuration, b"" where there is none.

    Attributes:
        size: (height, width) that the headers state for the last packet; None where not known.
        all_matter: whether the kinds and sizes of packets that are no keyframes need to be read.
        is_reordered: whether the last packet is a B-picture, shown before the one decoded in front
            of it (MPEG-1, 2 and 4); None where not known.
        order: order count of the last packet (H.264 and HEVC); None where not known.
        has_order: whether packets can have one, as far as parameter sets tell.
    """

    size: tuple[int, int] | None = None
    all_matter = True
    is_reordered: bool | None = None
    order: OrderCount | None = None
    has_order = True

    def __init__(self, extradata: bytes = b""):
        del extradata  # parsers that need it have their own

    def read(self, packet: Any) -> PacketKind:
        """What a packet is; a frame where its headers are damaged."""
        try:
            return self._read(packet)
        except (EOFError, IndexError):
            return PacketKind.FRAME

    def restart(self) -> None:
        """The next packet is read after a seek."""

    def _read(self, packet: Any) -> PacketKind:
        raise NotImplementedError
