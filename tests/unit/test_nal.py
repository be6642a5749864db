"""Damage that shows in the bytes of a packet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import pytest

from pvio.media.bitstream.nal.units import has_slice, is_damaged, nal_length_size

Clip = Callable[[str], Path]


def packets(path: Path) -> tuple[int, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        size = nal_length_size(context.codec.canonical_name, context.extradata)
        return size, [bytes(packet) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize(
    ("name", "expected_size"),
    [
        ("b_frames.mp4", 4), ("hevc_open_gop.mp4", 4), ("open_gop.mkv", 4), ("h264.avi", 0),
        ("b_frames.avi", 0), ("transport.ts", 0), ("hevc.ts", 0), ("raw.h264", 0),
    ],
)  # fmt: skip
def test_what_an_encoder_wrote_is_not_damaged(clip: Clip, name: str, expected_size: int):
    size, whole = packets(clip(name))
    assert size == expected_size
    assert not any(is_damaged(packet, size) for packet in whole)


@pytest.mark.parametrize("name", ["b_frames.mp4", "hevc_open_gop.mp4"])
def test_a_zeroed_stretch_is_damage_wherever_it_lies(clip: Clip, name: str):
    size, whole = packets(clip(name))
    largest = max(whole, key=len)
    for start in range(0, len(largest) - 40, 7):
        damaged = largest[:start] + bytes(16) + largest[start + 16 :]
        assert is_damaged(damaged, size), start


def test_units_that_do_not_fill_the_packet_are_damage(clip: Clip):
    size, whole = packets(clip("b_frames.mp4"))
    assert all(is_damaged(packet[:-1], size) for packet in whole)


def test_other_codecs_and_start_codes_have_no_lengths():
    assert nal_length_size("vp9", b"\x01\x02\x03\x04\x05") is None
    assert nal_length_size("h264", b"\x00\x00\x00\x01\x67") == 0
    assert nal_length_size("h264", None) == 0
    assert nal_length_size("h264", b"\x01\x64\x00\x1f\xfd") == 2


def test_a_packet_of_side_information_alone_has_no_frame():
    sei, slice_ = b"\0\0\0\1\x06\x05\x01A\x80", b"\0\0\0\1\x41\x9a\x80"
    assert has_slice(sei + slice_, 0, "h264")
    assert not has_slice(sei, 0, "h264")
    assert has_slice(b"\0\0\0\1\x02\x01\xd0", 0, "hevc")
    assert not has_slice(b"\0\0\0\1\x4e\x01\x05\x80", 0, "hevc")


def test_only_units_that_matter_are_looked_into():
    broken_sei = b"\x06\x05" + bytes(4) + b"\x80"
    slice_ = b"\x41\x9a\x80"
    packet = b"".join(len(unit).to_bytes(4, "big") + unit for unit in (broken_sei, slice_))
    assert not is_damaged(packet, 4, "h264")
    assert is_damaged(packet.replace(broken_sei, b"\x41" + broken_sei[1:]), 4, "h264")
