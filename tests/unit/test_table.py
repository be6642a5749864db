"""Every kind of clip against an independent decode by FFmpeg's command: count, times, luma planes.

FFmpeg's muxer `framemd5` writes for every frame its time stamp and the MD5 of its samples, here of
the luma plane, upright. The real clips are those of `../shared/videos`, where that folder is.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from clips import MORE_KINDS, N_FRAMES, RECIPES, REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pvio.video_io
from pvio.loader.dataset import VideoCollectionDataset
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index
from pvio.media.pixels.convert import FrameConverter
from pvio.media.pixels.planes import plane_as_array

REAL_CLIPS = REPOSITORY.parent / "shared" / "videos"
REAL_SUFFIXES = (".mp4", ".webm", ".mkv", ".avi")

# FFmpeg's command makes up times for these.
TIMES_MADE_UP = ("raw.h264", "b_frames.avi", "mpeg4_b_frames.avi", "negative_start.mkv")


class Row(NamedTuple):
    """A frame as FFmpeg's command sees it."""

    time: Fraction
    digest: str


@pytest.fixture
def kind(clip: Callable[[str], Path]) -> Callable[[str], Path]:
    """Path of any clip of the table by its name."""
    return lambda name: REAL_CLIPS / name if (REAL_CLIPS / name).exists() else clip(name)


def by_ffmpeg(ffmpeg: Any, path: Path) -> list[Row]:
    """What FFmpeg's command decodes: the stream that it takes for the best one, upright."""
    text = ffmpeg.run(
        *("-v", "error", "-copyts", "-i", path, "-an", "-sn", "-dn", "-fps_mode", "passthrough"),
        *("-enc_time_base:v", "demux", "-vf", "extractplanes=y", "-f", "framemd5", "-"),
    ).stdout.decode()
    base = Fraction(text.partition("#tb 0: ")[2].split()[0])
    lines = [line.split(",") for line in text.splitlines() if line and line[0] != "#"]
    return [Row(int(line[2]) * base, line[5].strip()) for line in lines]


def by_pvio(path: Path, start: int = 0, stop: int | None = None) -> tuple[list[Row], set[str]]:
    """What pvio reads, and which statuses it gives."""
    index = load_index(path)
    reader = open_reader(index)
    rows, statuses = [], set()
    for decoded in reader.frames(start, index.n_frames if stop is None else stop):
        assert decoded.number == start + len(rows)
        image: Any = decoded.pixels
        luma = np.ascontiguousarray(index.orientation.apply(plane_as_array(image, 0)))
        rows.append(
            Row(int(index.pts[decoded.number]) * index.time_base, hashlib.md5(luma).hexdigest())
        )
        statuses.add(decoded.status)
    reader.close()
    return rows, statuses


NAMES = [
    *(name for name in RECIPES if name != "rgb.mkv"),  # it has no luma plane
    *MORE_KINDS,
    *sorted(path.name for path in REAL_CLIPS.glob("*") if path.suffix in REAL_SUFFIXES),
]
# Those of which a decode takes no second.
QUICK = [name for name in NAMES if not name.startswith(("fly_", "mouse_", "robot_", "tc_nasa"))]


@pytest.mark.parametrize("name", NAMES)
def test_count_times_and_luma_are_ffmpegs(kind: Callable[[str], Path], name: str, ffmpeg: Any):
    expected = by_ffmpeg(ffmpeg, kind(name))
    found, statuses = by_pvio(kind(name))
    assert statuses == {"ok"}
    assert load_index(kind(name)).damage == ""
    assert len(found) == len(expected)
    assert pvio.video_io.check_num_frames(kind(name)) == len(expected)
    assert [row.digest for row in found] == [row.digest for row in expected]
    if name not in TIMES_MADE_UP:
        assert found[0].time == expected[0].time
        assert found[-1].time == expected[-1].time
        assert [row.time for row in found] == [row.time for row in expected]


@pytest.mark.parametrize("name", QUICK)
def test_the_functions_of_0_1_3_agree(kind: Callable[[str], Path], name: str):
    index = load_index(kind(name))
    convert = FrameConverter("rgb", index.height, index.width, index.orientation)
    reader = open_reader(index)
    expected = [convert(decoded.pixels) for decoded in reader.frames(0, index.n_frames)]
    reader.close()
    frames, _ = pvio.video_io.read_frames_from_video(kind(name))
    assert np.array_equal(frames, expected)
    loaded = {item["frame_idx"]: item["frame"] for item in VideoCollectionDataset([kind(name)])}
    assert sorted(loaded) == list(range(index.n_frames))
    for frame_number, image in enumerate(expected):
        assert np.array_equal(
            loaded[frame_number].numpy().transpose(1, 2, 0), np.float32(image) / 255
        )


@functools.cache
def whole(path: Path) -> tuple[list[Row], set[str]]:
    return by_pvio(path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_random_segment_of_a_random_clip_has_the_frames_of_the_whole(
    kind: Callable[[str], Path], data: st.DataObject
):
    path = kind(data.draw(st.sampled_from(QUICK)))
    rows, _ = whole(path)
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    found, statuses = by_pvio(path, start, stop)
    assert statuses == {"ok"}
    assert found == rows[start:stop]


@pytest.mark.parametrize("name", ["transport.ts", "program.mpg"])
def test_where_the_clock_starts_again_all_frames_are_kept(
    clip: Callable[[str], Path], name: str, tmp_path: Path
):
    once, _ = by_pvio(clip(name))
    path = tmp_path / name
    path.write_bytes(2 * clip(name).read_bytes())
    index = load_index(path)
    assert index.n_frames == 2 * N_FRAMES
    assert "time stamps restart at packet 40" in index.damage or "incomplete" in index.damage
    assert (np.diff(index.pts) > 0).all()
    reader = open_reader(index)
    for decoded in reader.frames(0, 2 * N_FRAMES):
        if decoded.pixels is not None:
            luma = np.ascontiguousarray(plane_as_array(decoded.pixels, 0))
            assert hashlib.md5(luma).hexdigest() == once[decoded.number % N_FRAMES].digest
    reader.close()


def test_the_kinds_are_what_they_are_called(kind: Callable[[str], Path]):
    assert load_index(kind("negative_start.mp4")).n_frames < N_FRAMES
    assert load_index(kind("negative_start.mkv")).n_frames == N_FRAMES
    assert load_index(kind("late_start.mp4")).pts[0] > 0
    assert load_index(kind("open_gop.mkv")).open_gops
    assert load_index(kind("intra_refresh.mp4")).keyframes.tolist() == [0]
    assert load_index(kind("open_gop_quiet.mkv")).open_gops
    assert not load_index(kind("program_h264.mpg")).pts_identify_frames
    assert not load_index(kind("repeated_times_b.mkv")).pts_identify_frames
    assert load_index(kind("dropped.avi")).pts[-1] == N_FRAMES + 4 - 1
    assert load_index(kind("two_streams.mp4")).n_frames == N_FRAMES
    assert 20 <= load_index(kind("edit_list.mp4")).n_frames < 30
    assert len(set(np.diff(load_index(kind("uneven.mkv")).pts))) > 3
    assert len(np.unique(load_index(kind("repeated_times.mkv")).pts)) < N_FRAMES
