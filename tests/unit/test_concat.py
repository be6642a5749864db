"""Joined segments: one video with the source's times, or an error that names the segment."""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from clips import B_FRAMES, TONE
from clips import source as moving_picture
from encoding import encoded, reencode
from hypothesis import given
from hypothesis import strategies as st

from pvio.cache.atomic import atomic_path
from pvio.errors import EncodeError
from pvio.media.encode import concat as stitch
from pvio.media.encode.concat import concat_segments
from pvio.media.encode.model_frames import ModelFrameWriter
from pvio.media.index.cached import load_index
from pvio.media.timing.muxed_times import muxed_timestamps, strictly_ascending

Clip = Callable[[str], Path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: parts[:-1],
        lambda parts: parts[1:],
        lambda parts: [(0, 13, parts[0][2]), *parts[1:]],
        lambda parts: [parts[0], parts[0], *parts[2:]],
    ],
    ids=["last absent", "first absent", "wrong count", "one twice"],
)
def test_wrong_segments_are_an_error_and_leave_no_file(
    clip: Clip, settings_for: Any, tmp_path: Path, damage: Any
):
    index = load_index(clip("b_frames.mp4"))
    parts = damage(encoded(index, settings_for()))
    with pytest.raises(EncodeError), atomic_path(tmp_path / "out.mp4") as temporary:
        concat_segments(parts, index, temporary)
    assert list(tmp_path.iterdir()) == []


def test_segments_of_other_settings_are_an_error(clip: Clip, settings_for: Any, tmp_path: Path):
    index = load_index(clip("b_frames.mp4"))
    parts = encoded(index, settings_for())
    parts[1] = encoded(index, settings_for(crf=30, preset="medium"))[1]
    with pytest.raises(EncodeError, match="other parameters"):
        concat_segments(parts, index, tmp_path / "out.mp4")


@pytest.mark.parametrize("start", ["0.5004", "1.466667"])
def test_a_start_between_milliseconds_is_kept(tmp_path: Path, settings_for: Any, start: str):
    source = tmp_path / "late.ts"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    command += ["testsrc2=s=64x48:r=30:d=1", "-c:v", "libx264", "-bf", "0", "-muxdelay", "0"]
    command += ["-muxpreload", "0", "-output_ts_offset", start, str(source)]
    subprocess.run(command, check=True)
    index = load_index(source)
    target = tmp_path / "late.mp4"
    concat_segments(encoded(index, settings_for(), index.n_frames), index, target)
    with av.open(str(target)) as video:
        stream = video.streams.video[0]
        times = [p.pts * p.time_base for p in video.demux(stream) if p.size]
    assert times == [int(pts) * index.time_base for pts in index.pts]


@given(st.lists(st.integers(-50, 50), min_size=1).map(sorted))
def test_repeated_times_are_pulled_apart(times: list[int]):
    found = strictly_ascending(np.array(times))
    assert (np.diff(found) > 0).all()
    assert (found >= times).all()
    assert found[0] == times[0]


@given(st.sets(st.integers(-50, 50), min_size=1).map(sorted))
def test_ascending_times_stay(times: list[int]):
    assert strictly_ascending(np.array(times)).tolist() == times


def test_segments_of_different_encoders_are_an_error_that_names_them(
    clip: Clip, settings_for: Any, tmp_path: Path
):
    index = load_index(clip("b_frames.mp4"))
    parts = encoded(index, settings_for(codec="libx264"))
    start, stop, payload = parts[2]
    # As a machine with a GPU would have marked it; the name has the same length.
    parts[2] = (start, stop, payload.replace(b"\x07libx264", b"\x07h264_nv"))
    expected = f"frames {start} to {stop - 1} were encoded by h264_nv, those before by libx264"
    with pytest.raises(EncodeError, match=expected):
        concat_segments(parts, index, tmp_path / "out.mp4")


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ({"pix_fmt": "yuv444p"}, "h264 yuv444p 96×64, those before as h264 yuv420p 96×64"),
        ({"pix_fmt": "yuv420p10le"}, "h264 yuv420p10le 96×64"),
    ],
    ids=str,
)
def test_segments_of_another_format_are_an_error_that_names_them(
    clip: Clip, other: Any, shown: str, settings_for: Any, tmp_path: Path
):
    index = load_index(clip("b_frames.mp4"))
    parts = encoded(index, settings_for())
    parts[1] = encoded(index, settings_for(**other))[1]
    with pytest.raises(EncodeError, match=f"frames 12 to 23 were encoded as {shown}"):
        concat_segments(parts, index, tmp_path / "out.mp4")


def test_a_segment_of_another_size_is_an_error(clip: Clip, settings_for: Any, tmp_path: Path):
    index = load_index(clip("b_frames.mp4"))
    settings = settings_for()
    parts = encoded(index, settings)
    file = io.BytesIO()
    with ModelFrameWriter(file, index, 12, settings.output) as writer:
        for _ in range(12, 24):
            writer.write(np.zeros((32, 48, 3), np.uint8), "ok")
    parts[1] = (12, 24, file.getvalue())
    with pytest.raises(EncodeError, match="frames 12 to 23 were encoded as h264 yuv420p 48×32"):
        concat_segments(parts, index, tmp_path / "out.mp4")


def test_an_encoder_that_reorders_more_than_it_declares_is_an_error(
    clip: Clip, settings_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index = load_index(clip("b_frames.mp4"))
    parts = encoded(index, settings_for(crf=23, preset="medium"))
    monkeypatch.setattr(
        stitch, "_parameters", lambda s, true=stitch._parameters: replace(true(s), reorder_depth=0)
    )
    with pytest.raises(EncodeError, match=r"frames 0 to 11: frame \d+ is decoded after"):
        concat_segments(parts, index, tmp_path / "out.mp4")


@given(
    st.sets(st.integers(0, 10**9), min_size=1).map(sorted),
    st.sampled_from([Fraction(1, 90_000), Fraction(1, 15_360), Fraction(1001, 30_000)]),
)
def test_matroska_times_are_the_nearest_milliseconds(pts: list[int], time_base: Fraction):
    found, unit = muxed_timestamps(np.array(pts), time_base, "a.mkv")
    assert unit == Fraction(1, 1000)
    assert (np.diff(found) > 0).all()
    true = [each * time_base for each in pts]
    # Further off only where they had to be pulled apart.
    for k, (at, exact) in enumerate(zip(found.tolist(), true, strict=True)):
        pushed = k > 0 and at == found[k - 1] + 1
        assert abs(at * unit - exact) <= unit / 2 or pushed


def test_times_that_are_no_milliseconds_are_rounded_in_matroska(
    clip: Clip, tmp_path: Path, settings_for: Any, ffmpeg: Any
):
    source = tmp_path / "ntsc.mp4"
    ffmpeg.run("-v", "error", *moving_picture("30000/1001"), *B_FRAMES, source)
    path = reencode(source, settings_for(codec="ffv1"), tmp_path / "a.mkv")
    off = [a - b for a, b in zip(ffmpeg.times(path), ffmpeg.times(source), strict=True)]
    assert max(map(abs, off)) <= Fraction(1, 2000)
    assert any(off)


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mp4"), ("ffv1", ".mkv")])
def test_a_video_that_starts_before_zero_starts_at_zero(
    codec: str, suffix: str, settings_for: Any, tmp_path: Path, ffmpeg: Any, caplog: Any
):
    source, early = tmp_path / "source.ts", tmp_path / "early.mkv"
    ffmpeg.run(*("-v", "error", *TONE, *moving_picture("25"), *B_FRAMES, "-c:a", "mp2", source))
    shift = ("-output_ts_offset", "-2", "-avoid_negative_ts", "disabled")
    ffmpeg.run(*("-v", "error", "-copyts", "-i", source, "-c", "copy", *shift, early))
    index = load_index(early)
    assert index.pts[0] < 0
    path = reencode(early, settings_for(codec=codec), tmp_path / f"out{suffix}")
    assert "time stamps start at -" in caplog.text
    times = ffmpeg.times(path)
    assert times[0] == 0
    steps = [b - a for a, b in itertools.pairwise(index.pts)]
    assert [b - a for a, b in itertools.pairwise(times)] == [
        step * index.time_base for step in steps
    ]
    # The audio stays in sync with the frames.
    (old, _), (new, _) = (ffmpeg.packets(each, "0:a:0")[0] for each in (early, path))
    later = -int(index.pts[0]) * index.time_base
    assert abs(float(new - old - later)) < 0.001


def test_segments_do_not_depend_on_where_the_clock_begins(clip: Clip, settings_for: Any):
    settings = settings_for(crf=23, preset="medium")
    late, plain = (load_index(clip(name)) for name in ("late_start.mp4", "b_frames.mp4"))
    assert late.pts[0] > plain.pts[0]
    assert encoded(late, settings) == encoded(plain, settings)
