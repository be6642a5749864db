"""What the first bytes of packets show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvio.media.bitstream.packet_kinds import PacketKind
from pvio.media.index.parsers import _PARSERS, parser_for

Clip = Callable[[str], Path]
CLIPS = {
    "h264": "transport.ts",
    "hevc": "hevc.ts",
    "vp8": "vp8.webm",
    "vp9": "odd_420.webm",
    "av1": "av1.mkv",
    "mpeg2video": "program.mpg",
    "mpeg4": "mpeg4.avi",
    "mjpeg": "mjpeg.avi",
}


def packet(data: bytes, is_key: bool = False) -> av.Packet:
    made = av.Packet(data)
    made.is_keyframe = is_key
    return made


def first_packets(path: Path) -> tuple[bytes | None, list[bytes]]:
    with av.open(str(path)) as container:
        extradata = container.streams.video[0].codec_context.extradata
        packets = [bytes(each) for each in container.demux(video=0) if each.size]
    return extradata, packets[:6]


@pytest.mark.parametrize("codec", CLIPS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_packets_are_read_without_an_error(clip: Clip, codec: str, data: st.DataObject):
    extradata, packets = first_packets(clip(CLIPS[codec]))
    broken = bytearray(extradata or b"")
    for at in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3)):
        if broken:
            broken[at] ^= data.draw(st.integers(1, 255))
    parser = parser_for(codec, bytes(broken))
    assert parser is not None
    for each in packets:
        changed = bytearray(each[: data.draw(st.integers(1, len(each)))])
        for at in data.draw(st.lists(st.integers(0, min(len(changed), 80) - 1), max_size=4)):
            changed[at] ^= data.draw(st.integers(1, 255))
        assert parser.read(packet(bytes(changed), data.draw(st.booleans()))) in PacketKind


@pytest.mark.parametrize("codec", _PARSERS)
@settings(max_examples=60, deadline=None)
@given(content=st.binary(min_size=1, max_size=200), is_key=st.booleans())
def test_any_bytes_are_read_without_an_error(codec: str, content: bytes, is_key: bool):
    parser = parser_for(codec, content)
    assert parser is not None
    assert parser.read(packet(content, is_key)) in PacketKind


def test_the_second_field_of_mpeg_2_is_no_frame(clip: Clip):
    """`picture_structure` (ISO/IEC 13818-2, 6.3.10) is 1 in a top field and 2 in a bottom field."""
    _, packets = first_packets(clip("program.mpg"))

    def field(data: bytes, structure: int) -> bytes:
        changed = bytearray(data)
        at = data.index(b"\0\0\1\0")
        at = data.index(b"\0\0\1\xb5", at)
        changed[at + 6] = changed[at + 6] & ~3 | structure
        return bytes(changed)

    parser = parser_for("mpeg2video", b"")
    assert parser is not None
    kinds = [
        parser.read(packet(field(data, structure), number == 0))
        for number, data in enumerate(packets[:3])
        for structure in (1, 2)
    ]
    assert kinds == [PacketKind.FRAME, PacketKind.SECOND_FIELD] * 3
    assert parser.size == (64, 96)
    # Of the same parity; both in one packet; whole frames.
    assert [parser.read(packet(field(packets[0], 1))) for _ in range(2)] == [PacketKind.FRAME] * 2
    pair = field(packets[0], 1) + field(packets[0], 2)
    assert [parser.read(packet(pair)) for _ in range(2)] == [PacketKind.FRAME] * 2
    assert [parser.read(packet(data)) for data in packets] == [PacketKind.FRAME] * len(packets)
