"""Seeded damage of the headers of coded frames: it removes no row, and adds none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from formats.rows import CASES, packets_of, source

from pvio.media.index.cached import load_index

N_FRAMES, N_COPIES = 24, 40
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-g", "12")
H264 = ("-c:v", "libx264", "-bf", "0", "-g", "12", "-flags", "+ildct+ilme", "-x264opts", "tff=1")
MPEG2 = ("-c:v", "mpeg2video", "-g", "12", "-flags", "+ildct+ilme", "-alternate_scan", "1")
# Name: endings of containers with a packet a frame, arguments of FFmpeg.
CLIPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "VP8": (("webm", "mkv", "nut"), ("-c:v", "libvpx", "-deadline", "realtime", "-g", "12")),
    "VP9": (("webm", "mp4", "nut"), VP9),
    "AV1": (("mp4", "mkv", "webm"), AV1),
    "H.264, interlaced": (("mp4", "mkv", "mov"), H264),
    "MPEG-2, interlaced": (("mov", "mkv", "mp4"), MPEG2),
    "MPEG-4": (("mp4", "mkv", "mov"), ("-c:v", "mpeg4", "-g", "12")),
    "HEVC": (("mp4", "mkv"), ("-c:v", "libx265", "-x265-params", "log-level=error:bframes=0")),
}
KINDS = ("flip", "byte", "zeros", "other")


def damage(file: bytes, packets: list[bytes], seed: int) -> bytes:
    """The file with one kind of damage at the start of a few of its packets."""
    chance, kind, result = random.Random(seed), KINDS[seed % len(KINDS)], bytearray(file)
    chosen = set(chance.sample(range(1, len(packets)), 4))
    chosen.add(max(1, max(chosen) - 1))  # of two in a row one may look like a part of the other
    for number in chosen:
        data = bytearray(packets[number])
        at = chance.randrange(min(12, len(data)))
        if kind == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            data[at] = chance.randrange(256)
        elif kind == "zeros":
            data[at : at + 8] = bytes(len(data[at : at + 8]))
        else:  # as where blocks of a disk are mixed up
            other = packets[chance.randrange(len(packets))][30 : 30 + len(data)]
            data[: len(other)] = other
        start = file.index(packets[number])
        result[start : start + len(data)] = data
    return bytes(result)


@pytest.mark.parametrize("codec", CLIPS)
def test_the_rows_stay(ffmpeg: Any, tmp_path: Path, codec: str):
    endings, arguments = CLIPS[codec]
    for ending in endings:
        whole, broken = tmp_path / f"whole.{ending}", tmp_path / f"broken.{ending}"
        ffmpeg.run("-v", "error", *source(n_frames=N_FRAMES), *arguments, whole)
        file, packets = whole.read_bytes(), [packet.data for packet in packets_of(whole)]
        assert len(packets) == N_FRAMES
        for seed in range(N_COPIES):
            broken.write_bytes(damage(file, packets, seed))
            assert load_index(broken).n_frames == N_FRAMES, (ending, seed)


def test_a_group_of_hidden_frames_keeps_its_row(ffmpeg: Any, tmp_path: Path):
    """Where a shown frame's header is damaged, too, nothing at its time seems to be shown."""
    for case in CASES:
        if case.name not in ("hidden_av1.mkv", "hidden_av1.mp4", "hidden_vp8.webm"):
            continue
        path = tmp_path / case.name
        case.make(ffmpeg, path)
        file = path.read_bytes()
        packets = packets_of(path)
        for number, packet in enumerate(packets[1:-1], 1):
            # AV1: show_existing_frame and show_frame of the frame header after the OBU's own.
            data = bytearray(packet.data)
            if "vp8" in case.name:
                data[0] &= ~0x10
            else:
                data[2 if data[0] & 2 and len(data) < 130 else 3] &= ~0x90
            start = file.index(packet.data)
            path.write_bytes(file[:start] + data + file[start + len(data) :])
            assert load_index(path).n_frames == case.n_frames, (case.name, number)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_packet_of_av1_that_is_cut_off_keeps_its_row(ffmpeg: Any, tmp_path: Path, share: float):
    """What is left of the second packet, hidden frames alone, is no reason to leave out its row."""
    path = tmp_path / "a.mp4"
    clip = ("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-frames:v", N_FRAMES)
    noise = ("-vf", "noise=alls=8:allf=t:all_seed=1", "-pix_fmt", "yuv420p")
    ffmpeg.run("-v", "error", *clip, *noise, *AV1, "-movflags", "+faststart", path)
    file, second = path.read_bytes(), packets_of(path)[1].data
    path.write_bytes(file[: file.index(second) + int(share * len(second))])
    assert load_index(path).n_frames == N_FRAMES
