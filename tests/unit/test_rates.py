"""Which rate a video has: the stated one, that of its times, or an assumed one."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clips import RECIPES, source

from pvio.media.index.cached import load_index
from pvio.media.timing.rates import average_rate, is_believable, rate_of_times, stated_rate
from pvio.media.timing.vop_times import vop_times


def stream(
    average: Any = None, guessed: Any = None, coded: Any = None, time_base: Any = Fraction(1, 1000)
) -> Any:
    """What a stream says about its rate."""
    context = SimpleNamespace(framerate=coded)
    return SimpleNamespace(
        average_rate=average, guessed_rate=guessed, codec_context=context, time_base=time_base
    )


@pytest.mark.parametrize(
    ("stated", "believed"),
    [
        *((Fraction(1, 3600), True), (Fraction(1, 7200), False), (Fraction(24000, 1001), True)),
        *((Fraction(10_000), True), (Fraction(24_000), False), (Fraction(30_000), False)),
        *((Fraction(90_000), False), (Fraction(1_000_000), False), (Fraction(0), False)),
        (None, False),
    ],
)
def test_a_rate_is_believed_if_a_camera_can_have_it(stated: Any, believed: bool):
    assert is_believable(stated) is believed


def test_raw_streams_state_their_own_rate():
    assert stated_rate(stream(25, 25, Fraction(120)), own=True) == (120, "")
    assert stated_rate(stream(25, 50, None), own=True)[0] == 25
    assert stated_rate(stream(Fraction(30), 25, 50), own=False) == (30, "")


STEADY = 40 * np.arange(100)
JITTER = 33 * np.arange(100) + 7 * (np.arange(100) % 3)
# A pause of a minute in the middle.
PAUSED = STEADY + 60_000 * (np.arange(100) >= 50)


@pytest.mark.parametrize(
    ("stated", "pts", "expected"),
    [
        (Fraction(25), STEADY, 25),
        (Fraction(60_000), STEADY, 25),
        (Fraction(1000), STEADY, 25),
        (Fraction(50), STEADY, 25),
        (None, STEADY, 25),
        (Fraction(25), JITTER, 99 / (JITTER[-1] / 1000)),
        (Fraction(30000, 1001), JITTER, 30000 / 1001),
        (Fraction(25), PAUSED, 25),
        (Fraction(1000), PAUSED, 25),
        # As MP4 states it: frames over the whole duration.
        (Fraction(100_000, 64_000), PAUSED, 1.5625),
        # More than one frame in a unit of time.
        (Fraction(3000), np.arange(100) // 3, 3000),
    ],
)
def test_the_rate_is_the_stated_one_where_the_times_agree(stated: Any, pts: Any, expected: float):
    assert float(average_rate(stream(stated), pts, 40)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("stated", "duration", "expected"),
    [(Fraction(30), 0, 30), (Fraction(90_000), 40, 25), (Fraction(90_000), 0, 25), (None, 20, 50)],
)
def test_a_single_frame_has_a_rate(stated: Any, duration: int, expected: int):
    assert average_rate(stream(stated), np.array([7]), duration) == expected
    assert average_rate(stream(stated), np.array([7, 7]), duration) == expected


def test_the_rate_of_times_is_that_of_most_steps():
    times = [Fraction(number, 50) for number in (0, 2, 1, 3, 14, 13)]
    assert rate_of_times(times) == 50
    assert rate_of_times([Fraction(1)]) is None
    assert rate_of_times([Fraction(1), Fraction(1)]) is None


def test_uneven_times_of_a_raw_mpeg4_stream_are_kept(ffmpeg: Any, tmp_path: Path):
    uneven, raw = tmp_path / "a.mkv", tmp_path / "a.m4v"
    # In units of 1/1000 s, as its headers count: a gap, B-frames, and more than one second.
    ffmpeg.run(
        *("-v", "error", *source(), "-vf", "settb=1/1000,setpts=50*N+700*gte(N\\,20)"),
        *("-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-c:v", "mpeg4", "-bf", "2"),
        uneven,
    )
    ffmpeg.run("-v", "error", "-i", uneven, "-c", "copy", "-bsf:v", "dump_extra", "-f", "m4v", raw)
    expected = [(50 * number + 700 * (number >= 20)) / 1000 for number in range(40)]
    assert [float(time) for time in sorted(vop_times(str(raw), 0))] == pytest.approx(expected)
    index = load_index(raw)
    assert index.times == pytest.approx(expected)
    assert (index.average_rate, index.warning) == (20, "")


def test_impossible_times_of_a_container_are_kept_and_reported(ffmpeg: Any, tmp_path: Path):
    path = tmp_path / "a.mp4"
    ffmpeg.run("-v", "error", *source("90000"), "-c:v", "libx264", "-bf", "0", path)
    index = load_index(path)
    assert np.diff(index.times) == pytest.approx(1 / 90_000)
    assert "give 90000 frames per second" in index.warning


def test_raw_dv_gets_a_video(ffmpeg: Any, reencoded: Callable[..., Path], tmp_path: Path):
    path = tmp_path / "a.dv"
    ffmpeg.run(
        *("-v", "error", *source(), "-frames:v", 4, "-s", "720x576", "-c:v", "dvvideo"),
        *("-pix_fmt", "yuv420p", path),
    )
    index, video = load_index(path), load_index(reencoded(path))
    assert (index.average_rate, video.average_rate, video.n_frames) == (25, 25, 4)
    assert np.array_equal(index.times, video.times)


def test_a_time_code_does_not_stop_the_video_of_a_fast_camera(
    ffmpeg: Any, reencoded: Callable[..., Path], tmp_path: Path
):
    path = tmp_path / "fast.mkv"
    code = ["-metadata", "timecode=01:00:00:00"]
    ffmpeg.run("-v", "error", *source("500"), *RECIPES["plain.mp4"][6:], *code, path)
    assert load_index(reencoded(path)).n_frames == 40
