"""Joined segments: one video with the source's times, sound, words and chapters, or an error."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from encoding import encoded
from hypothesis import given
from hypothesis import strategies as st

from pvio.errors import EncodeError
from pvio.media.index import load_index
from pvio.media.stitch import join_segments, strictly_ascending
from pvio.store import replacing

Clip = Callable[[str], Path]


def test_audio_packets_are_copied_with_their_times(clip: Clip, reencoded: Any, ffmpeg: Any):
    source = clip("audio.mp4")
    assert ffmpeg.packets(reencoded(source), "0:a:0") == ffmpeg.packets(source, "0:a:0")


def test_audio_that_the_container_cannot_hold_is_left_out(
    tmp_path: Path, reencoded: Any, ffmpeg: Any
):
    source = tmp_path / "pcm.avi"
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "sine=duration=0.4"),
        *("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25", "-frames:v", 10),
        *("-c:v", "mpeg4", "-c:a", "adpcm_ima_wav", source),
    )
    text = ffmpeg.describe(reencoded(source))
    assert "Video: h264" in text
    assert "Audio" not in text


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
    with pytest.raises(EncodeError), replacing(tmp_path / "out.mp4") as temporary:
        join_segments(parts, index, temporary)
    assert list(tmp_path.iterdir()) == []


def test_segments_of_other_settings_are_an_error(clip: Clip, settings_for: Any, tmp_path: Path):
    index = load_index(clip("b_frames.mp4"))
    parts = encoded(index, settings_for())
    parts[1] = encoded(index, settings_for(crf=30, preset="medium"))[1]
    with pytest.raises(EncodeError, match="other parameters"):
        join_segments(parts, index, tmp_path / "out.mp4")


@pytest.mark.parametrize("start", ["0.5004", "1.466667"])
def test_a_start_between_milliseconds_is_kept(tmp_path: Path, settings_for: Any, start: str):
    source = tmp_path / "late.ts"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    command += ["testsrc2=s=64x48:r=30:d=1", "-c:v", "libx264", "-bf", "0", "-muxdelay", "0"]
    command += ["-muxpreload", "0", "-output_ts_offset", start, str(source)]
    subprocess.run(command, check=True)
    index = load_index(source)
    target = tmp_path / "late.mp4"
    join_segments(encoded(index, settings_for(), index.n_frames), index, target)
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
