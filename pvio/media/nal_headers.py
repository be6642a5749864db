"""Packets of H.264 and HEVC: second fields, and the size of frames.

A frame of H.264 may be coded as two fields of opposite parity. Containers keep these in one packet
or in two. Two are one frame when FFmpeg pairs them: opposite parity, the same `frame_num`, one
behind the other. Of HEVC FFmpeg makes each field a frame of its own.
"""

from __future__ import annotations

from typing import Any

from pvio.media.nal import length_size
from pvio.media.packet_kinds import Kind, PacketParser
from pvio.media.parameter_sets import ParameterSets, Slice, units_of, units_of_extradata


class NalParser(PacketParser):
    """See `PacketParser`.

    Args:
        extradata: of the stream.
        codec: "h264" or "hevc".
    """

    def __init__(self, extradata: bytes = b"", codec: str = "h264"):
        self._codec = codec
        self._sets = ParameterSets(codec)
        self._first: Slice | None = None  # field that waits for its second
        self._configure(extradata)

    def restart(self) -> None:
        self._first = None

    def _configure(self, extradata: bytes) -> None:
        self._length_size = length_size(self._codec, extradata)
        for unit in units_of_extradata(extradata, self._codec):
            self._sets.take(unit)
        self.all_matter = self._sets.has_fields

    def _read(self, packet: Any) -> Kind:
        if packet.is_keyframe and packet.has_sidedata("new_extradata"):
            self._configure(bytes(packet.get_sidedata("new_extradata")))
        if self._length_size is None:
            return Kind.FRAME
        field = None
        for unit in units_of(memoryview(packet), self._length_size):
            if (header := self._sets.slice_of(unit)) is None:
                self._sets.take(unit)
                continue
            self.size = header.sequence.size
            if header.field == "frame":
                break
            if field is not None and header.field != field.field:
                field = None  # both fields are here
                break
            field = header
        self.all_matter = self._sets.has_fields
        first, self._first = self._first, field
        if (
            field is not None
            and first is not None
            and first.field != field.field
            and first.frame_num == field.frame_num
        ):
            self._first = None
            return Kind.SECOND_FIELD
        return Kind.FRAME
