"""Packets of H.264 and HEVC: second fields, the size of frames, and their order.

A frame of H.264 may be coded as two fields of opposite parity. Containers keep these in one packet
or in two. FFmpeg pairs two packets if they have opposite parity, the same `frame_num`, and
follow each other. In HEVC, FFmpeg returns each field as a frame.
"""

from __future__ import annotations

from typing import Any

from pvio.media.bitstream.nal.h264 import H264Headers
from pvio.media.bitstream.nal.hevc import HevcHeaders
from pvio.media.bitstream.nal.parameter_sets import NalHeaders, Slice, units_of
from pvio.media.bitstream.nal.units import nal_length_size
from pvio.media.bitstream.packet_kinds import PacketKind, PacketParser


class NalParser(PacketParser):
    """See `PacketParser`.

    Args:
        extradata: of the stream.
        codec: "h264" or "hevc".
    """

    def __init__(self, extradata: bytes = b"", codec: str = "h264"):
        self._codec = codec
        self._headers: NalHeaders = H264Headers() if codec == "h264" else HevcHeaders()
        self._first: Slice | None = None  # field whose second has not come yet
        self._configure(extradata)

    def restart(self) -> None:
        """See `PacketParser.restart`."""
        self._first = None

    def _configure(self, extradata: bytes) -> None:
        self._length_size = nal_length_size(self._codec, extradata)
        for unit in self._headers.units_of_extradata(extradata):
            self._headers.read(unit, has_lengths=True)
        self._note_sets()

    def _note_sets(self) -> None:
        self.all_matter, self.has_order = self._headers.has_fields, self._headers.has_order

    def _read(self, packet: Any) -> PacketKind:
        self.order = None
        if packet.is_keyframe and packet.has_sidedata("new_extradata"):
            self._configure(bytes(packet.get_sidedata("new_extradata")))
        if self._length_size is None:
            return PacketKind.FRAME
        field, is_first = None, True
        for unit in units_of(memoryview(packet), self._length_size):
            header = self._headers.read(unit, self._length_size > 0)
            if header is None:
                self._note_sets()
                continue
            self.size = header.size
            if is_first:
                self.order, is_first = header.order, False
            if header.field == "frame":
                break
            if field is not None and header.field != field.field:
                field = None  # both fields are in this packet
                break
            field = header
        first, self._first = self._first, field
        if (
            field is not None
            and first is not None
            and first.field != field.field
            and first.frame_num == field.frame_num
        ):
            self._first = None
            return PacketKind.SECOND_FIELD
        return PacketKind.FRAME
