"""What a packet is for whoever counts frames, and how parsers of packets look."""

from __future__ import annotations

import enum
from typing import Any


class Kind(enum.Enum):
    """What comes of a packet.

    Attributes:
        FRAME: a frame of its own, or the first field of one.
        SECOND_FIELD: it completes the frame of the packet before.
        HIDDEN: nothing is shown; other frames refer to it.
        AS_BEFORE: the frame before is shown once more, of which decoders give no picture.
    """

    FRAME = enum.auto()
    SECOND_FIELD = enum.auto()
    HIDDEN = enum.auto()
    AS_BEFORE = enum.auto()


class PacketParser:
    """Reads the headers of a stream's packets, in decoding order; nothing is decoded.

    Args:
        extradata: the stream's decoder configuration, b"" where there is none.

    Attributes:
        size: (height, width) that the headers state for the last packet; None where not known.
        all_matter: whether packets that are no keyframes need to be read.
        is_reordered: whether the last packet is shown before the one decoded in front of it
            (MPEG-4).
    """

    size: tuple[int, int] | None = None
    all_matter = True
    is_reordered = False

    def __init__(self, extradata: bytes = b""):
        del extradata  # parsers that need it have their own

    def read(self, packet: Any) -> Kind:
        """What a packet is; a frame where its headers are damaged."""
        try:
            return self._read(packet)
        except (EOFError, IndexError):
            return Kind.FRAME

    def restart(self) -> None:
        """The next packet is read after a seek."""

    def _read(self, packet: Any) -> Kind:
        raise NotImplementedError
