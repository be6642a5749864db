"""Files that declare more than they hold, and damaged ones, cost themselves and little time."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats import DATA

import pvio.media.containers.limits
from pvio.errors import UnreadableVideo
from pvio.media.containers.mp4_tables import declared_frame_count
from pvio.media.decode.reader import open_reader
from pvio.media.ffmpeg.demux import demux
from pvio.media.index.cached import load_index

Clip = Callable[[str], Path]
MILLION = 1_000_000


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, flags: int, *numbers: int) -> bytes:
    """A box with version 0, flags, and numbers of 32 bits."""
    return box(kind, struct.pack(f">I{len(numbers)}I", flags, *numbers))


def mp4(
    jpeg: bytes,
    n_frames: int,
    size: int,
    *,
    chunks: int = 1,
    edits: int = 0,
    offsets: int = 0,
    run: int = 0,
) -> bytes:
    """An MP4 of JPEGs.

    Args:
        jpeg: the only bytes of frames that are there.
        n_frames, size: as declared, the size of each frame in bytes.
        chunks: in which the frames are, all at the same place.
        edits: entries of an edit list that shows everything in each.
        offsets: frames that a table of offsets declares.
        run: frames of a fragment.
    """
    start = 24
    head = box(b"ftyp", b"isom", bytes(4), b"isom", b"mp41")
    entry = bytes(7) + b"\1" + bytes(16) + struct.pack(">HHII", 96, 64, 72 << 16, 72 << 16)
    entry += struct.pack(">IH32sHh", 0, 1, b"", 24, -1)
    description = box(b"jpeg", entry)
    stsd = box(b"stsd", struct.pack(">II", 0, 1), description)
    tables = [
        stsd,
        full(b"stts", 0, 1, n_frames, 1000),
        full(b"stsc", 0, 1, 1, n_frames // chunks, 1),
        full(b"stsz", 0, size, n_frames),
        full(b"stco", 0, chunks, *([start + 8] * chunks)),
    ]
    if offsets:
        tables.append(full(b"ctts", 0, 1, offsets, 0))
    length = min(n_frames * 1000, 2**32 - 1)
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, 0, 25_000, length, 0x55C40000),
        box(b"hdlr", bytes(8), b"vide", bytes(13)),
        box(
            b"minf",
            full(b"vmhd", 1, 0, 0),
            box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), full(b"url ", 1))),
            box(b"stbl", *tables),
        ),
    )
    matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    header = struct.pack(">10I", 3, 0, 0, 1, 0, length, 0, 0, 0, 0)
    track = [box(b"tkhd", header, matrix, struct.pack(">II", 96 << 16, 64 << 16))]
    if edits:
        rows = struct.pack(">IiI", length, 0, 1 << 16) * edits
        track.append(box(b"edts", box(b"elst", struct.pack(">II", 0, edits), rows)))
    movie = box(
        b"mvhd",
        struct.pack(">5I", 0, 0, 0, 25_000, length),
        struct.pack(">IH10x", 1 << 16, 256),
        matrix,
        bytes(24),
        struct.pack(">I", 2),
    )
    extends = box(b"mvex", full(b"trex", 0, 1, 1, 1000, 10, 0)) if run else b""
    data = head + box(b"mdat", jpeg) + box(b"moov", movie, box(b"trak", *track, media), extends)
    if run:
        traf = box(b"traf", full(b"tfhd", 0x20000, 1), full(b"trun", 0, run))
        data += box(b"moof", full(b"mfhd", 0, 1), traf) + box(b"mdat", jpeg)
    return data


@pytest.fixture(scope="module")
def jpeg(ffmpeg: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("jpeg") / "a.jpg"
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=96x64"),
        *("-frames:v", 1, "-c:v", "mjpeg", path),
    )
    return path.read_bytes()


def test_an_mp4_of_this_making_is_intact(jpeg: bytes, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(jpeg, 4, len(jpeg), chunks=4))
    index = load_index(path)
    assert (index.n_frames, index.damage) == (4, "")
    assert declared_frame_count(str(path)) == 4


@pytest.mark.parametrize(
    ("declared", "options"),
    [
        (2 * MILLION, {"n_frames": 2 * MILLION, "size": 1000}),
        (2**32 - 1, {"n_frames": 2**32 - 1, "size": 1}),
        (150 * MILLION, {"n_frames": 50_000, "size": 1, "edits": 3000}),
        (2**31, {"n_frames": 4, "size": 1, "offsets": 2**31}),
        (50 * MILLION, {"n_frames": 1, "size": 1, "run": 50 * MILLION}),
    ],
    ids=["size", "most", "edits", "offsets", "fragment"],
)
def test_a_small_file_that_declares_millions_of_frames_is_refused_at_once(
    jpeg: bytes, tmp_path: Path, declared: int, options: dict[str, int]
):
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(jpeg, **options))
    tracemalloc.start()
    with pytest.raises(UnreadableVideo, match=f"it declares {declared} frames in"):
        load_index(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def _spend(budget: pvio.media.containers.limits.Budget, n_packets: int) -> None:
    for _ in range(n_packets):
        budget.spend(1)


def test_more_packets_than_bytes_are_refused(jpeg: bytes, tmp_path: Path):
    """Small ones, which do not have many bytes together."""
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(jpeg, 4, len(jpeg), chunks=4))
    most = path.stat().st_size + 100_000
    budget = pvio.media.containers.limits.Budget(str(path))
    _spend(budget, most)
    with pytest.raises(UnreadableVideo, match=r"it gives more than \d+ frames, but the file has"):
        _spend(budget, 1000)


def test_frames_that_share_their_bytes_are_refused(jpeg: bytes, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(jpeg + bytes(500_000), 5000, 500_000, chunks=5000))
    with pytest.raises(UnreadableVideo, match="its frames have more than"):
        load_index(path)


def test_what_a_file_lacks_is_added_without_reading_it(jpeg: bytes, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(mp4(jpeg, 20_000, 1000))
    index = load_index(path)
    assert index.n_frames == 20_000
    assert np.allclose(np.diff(index.times), 1 / 25)
    assert index.damage != ""


def test_reading_ends_when_it_takes_too_long(clip: Clip, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pvio.media.containers.limits, "_SPARE_SECONDS", 0)
    monkeypatch.setattr(pvio.media.containers.limits, "_BYTES_PER_SECOND", 1e12)
    monkeypatch.setattr(pvio.media.containers.limits, "_PERIOD", 1)
    with pytest.raises(UnreadableVideo, match="listing its frames takes more than 0 s"):
        load_index(clip("b_frames.mp4"))


FAST_START = ["-movflags", "faststart"]
CUT = ["b_frames", "variable_rate", "late_start", "hevc_open_gop", "mpeg4_b_frames", "edit_list"]


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("share", [0.4, 0.95])
def test_the_frames_that_a_cut_off_file_lacks_have_their_times(
    clip: Clip, ffmpeg: Any, tmp_path: Path, name: str, share: float
):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg.run("-v", "error", "-i", clip(f"{name}.mp4"), "-c", "copy", *FAST_START, whole)
    data = whole.read_bytes()
    start = data.index(b"mdat")
    cut.write_bytes(data[: start + int((len(data) - start) * share)])
    index, complete = load_index(cut), load_index(whole)
    assert index.pts.tolist() == complete.pts.tolist()
    assert index.damage != ""
    reader = open_reader(index)
    statuses = [frame.status for frame in reader.frames(0, index.n_frames)]
    reader.close()
    assert statuses[0] == "ok"
    assert statuses[-1] != "ok"


def test_a_frame_without_bytes_is_missing(clip: Clip, tmp_path: Path):
    data = bytearray(clip("b_frames.mp4").read_bytes())
    sizes = data.index(b"stsz") + 16
    data[sizes + 4 * 36 : sizes + 4 * 37] = bytes(4)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    index = load_index(path)
    assert index.n_frames == 40
    assert index.damage == "it ends before the last frames that it lists"


def test_a_stream_that_appears_late_ends_nothing(tmp_path: Path):
    path = tmp_path / "a.ts"
    path.write_bytes((DATA / "late_stream.ts").read_bytes())
    index = load_index(path)
    reader = open_reader(index)
    statuses = [frame.status for frame in reader.frames(0, index.n_frames)]
    reader.close()
    assert len(statuses) == 39
    assert statuses.count("ok") > 30


class _Late:
    """A container that fails as PyAV does at the end, when a stream has appeared."""

    def demux(self, *_streams: Any) -> Any:
        yield from ("first", "last")
        raise IndexError("list index out of range")


def test_packets_end_where_a_stream_appeared_late():
    assert list(demux(_Late(), None)) == ["first", "last"]


class _Large:
    """A container in which no packet but the last has a size that there is memory for."""

    def __init__(self, n_failures: int):
        self.n_left = n_failures

    def demux(self, *_streams: Any) -> Any:
        if self.n_left:
            self.n_left -= 1
            raise MemoryError
        yield "last"


def test_a_packet_too_large_is_passed_over():
    assert list(demux(_Large(3), None)) == ["last"]
    with pytest.raises(MemoryError):
        list(demux(_Large(MILLION), None))


MUTATED = {
    "h264.mp4": ["-c:v", "libx264", "-bf", "2", "-g", "4"],
    "fast.mp4": ["-c:v", "libx264", "-bf", "2", *FAST_START],
    "fragments.mp4": ["-c:v", "libx264", "-g", "4", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=error:pools=1"],
    "prores.mov": ["-c:v", "prores", "-pix_fmt", "yuv422p10le"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "ffv1.mkv": ["-c:v", "ffv1"],
    "h264.ts": ["-c:v", "libx264"],
    "mpeg2.mpg": ["-c:v", "mpeg2video", "-bf", "2"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2"],
    "wmv2.wmv": ["-c:v", "wmv2"],
    "h264.flv": ["-c:v", "libx264"],
    "h264.nut": ["-c:v", "libx264"],
    "raw.h264": ["-c:v", "libx264"],
    "raw.hevc": ["-c:v", "libx265", "-x265-params", "log-level=error:pools=1"],
    "raw.m4v": ["-c:v", "mpeg4", "-bf", "2", "-f", "m4v"],
    "raw.m2v": ["-c:v", "mpeg2video", "-bf", "2"],
    "raw.obu": ["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8"],
    "raw.y4m": [],
}
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A copy that is damaged in one of several ways."""
    result, n = bytearray(data), len(data)
    at = chance.randrange(n)
    kind = chance.choice(["bits", "head", "tail", "number", "end", "zeros", "twice", "gone"])
    if kind == "bits":
        for _ in range(16):
            result[chance.randrange(n)] ^= 1 << chance.randrange(8)
    elif kind in ("head", "tail"):
        for _ in range(6):
            near = chance.randrange(min(n, 1200))
            result[near if kind == "head" else n - 1 - near] = chance.randrange(256)
    elif kind == "number":
        order = chance.choice(("big", "little"))
        for _ in range(3):
            at = chance.randrange(n - 4)
            result[at : at + 4] = chance.choice(NUMBERS).to_bytes(4, order)  # type: ignore[arg-type]
    elif kind == "end":
        del result[max(1, at) :]
    elif kind == "zeros":
        length = min(n - at, chance.randrange(1, 400))
        result[at : at + length] = bytes(length)
    elif kind == "twice":
        result[at:at] = result[at : at + chance.randrange(1, 2000)]
    else:
        del result[at : at + chance.randrange(1, 500)]
    return bytes(result)


@pytest.mark.parametrize("name", MUTATED)
def test_a_mutated_file_is_read_or_refused(ffmpeg: Any, tmp_path: Path, name: str):
    path = tmp_path / name
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=48x32:rate=25", "-frames:v", 8),
        *("-pix_fmt", "yuv420p", *MUTATED[name], path),
    )
    data = path.read_bytes()
    n_read = 0
    for seed in range(12):
        path.write_bytes(mutated(data, random.Random(f"{name} {seed}")))
        try:
            index = load_index(path)
        except UnreadableVideo:
            continue
        reader = open_reader(index)
        frame_numbers = [frame.number for frame in reader.frames(0, index.n_frames)]
        reader.close()
        assert frame_numbers == list(range(index.n_frames))
        n_read += 1
    assert n_read > 0
