"""`pvio.VideoWriter`: a video like its source, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
import pytest

from pvio import VideoWriter
from pvio.errors import ConfigError, EncodeError
from pvio.media.index.cached import load_index
from pvio.media.pixels.planes import plane_as_array

Clip = Callable[[str], Path]

LOSSLESS: dict[str, Any] = {"crf": 0, "preset": "ultrafast", "threads": 1}


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as video:
        return list(video.decode(video=0))


def copied(source: Path, path: Path, **options: Any) -> Path:
    """A video of the decoded frames of its source."""
    with VideoWriter(path, like=source, **{**LOSSLESS, **options}) as writer:
        for frame in frames_of(source):
            writer.write(frame)
    return path


COPIES = [
    ("b_frames.mp4", "yuv420p"),
    ("variable_rate.mp4", "yuv420p"),
    ("late_start.mp4", "yuv420p"),
    ("full_range.mp4", "yuvj420p"),
    ("odd_444.mp4", "yuv444p"),
    ("ten_bit.mp4", "yuv420p10le"),
]


@pytest.mark.parametrize(("name", "stored"), COPIES)
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_decoded_frames_keep_samples_and_times(
    clip: Clip, name: str, stored: str, codec: Any, tmp_path: Path, ffmpeg: Any
):
    path = copied(clip(name), tmp_path / "a.mp4", codec=codec)
    assert ffmpeg.decode(path, stored) == ffmpeg.decode(clip(name), stored)
    assert ffmpeg.times(path) == ffmpeg.times(clip(name))
    assert ffmpeg.logged_errors(path) == ""


def test_ffv1_takes_the_format_of_the_source(clip: Clip, tmp_path: Path, ffmpeg: Any):
    path = copied(clip("h264_422.mp4"), tmp_path / "a.mkv", codec="ffv1")
    assert ffmpeg.decode(path, "yuv422p") == ffmpeg.decode(clip("h264_422.mp4"), "yuv422p")


def test_h264_may_go_into_matroska(clip: Clip, tmp_path: Path, ffmpeg: Any):
    path = copied(clip("b_frames.mp4"), tmp_path / "a.mkv", preset="medium", crf=23)
    assert ffmpeg.times(path) == ffmpeg.times(clip("b_frames.mp4"))
    assert ffmpeg.logged_errors(path) == ""


@pytest.mark.parametrize("audio", [True, False])
def test_audio_is_copied_unless_it_is_not_wanted(
    clip: Clip, audio: bool, tmp_path: Path, ffmpeg: Any
):
    path = copied(clip("audio.mp4"), tmp_path / "a.mp4", audio=audio)
    if audio:
        assert ffmpeg.packets(path, "0:a:0") == ffmpeg.packets(clip("audio.mp4"), "0:a:0")
    else:
        assert "Audio" not in ffmpeg.describe(path)


@pytest.mark.parametrize("degrees", [90, 180])
def test_frames_of_a_turned_source_are_turned_upright(
    rotated_clip: Callable[..., Path], degrees: int, tmp_path: Path, ffmpeg: Any
):
    source = rotated_clip(degrees)
    path = copied(source, tmp_path / "a.mp4")
    size = (96, 64) if degrees == 90 else (64, 96)
    assert np.array_equal(ffmpeg.luma(path, *size), ffmpeg.luma(source, *size))
    assert "rotation" not in ffmpeg.describe(path)


@pytest.mark.parametrize("colour", [(200, 60, 30), (20, 90, 220), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("name", ["b_frames.mp4", "full_range.mp4", "ten_bit.mp4"])
def test_rgb_frames_keep_their_colors(
    clip: Clip, name: str, colour: tuple[int, int, int], tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=clip(name), **LOSSLESS) as writer:
        for _ in range(40):
            writer.write(np.full((64, 96, 3), colour, np.uint8))
    assert np.abs(ffmpeg.rgb(path, 64, 96).astype(int) - colour).max() <= 4


@pytest.mark.parametrize("rate", [25, 29.97, Fraction(30_000, 1001), 0.5])
def test_without_a_source_the_rate_gives_the_times(
    rate: float | Fraction, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, rate=rate, **LOSSLESS) as writer:
        for value in range(5):
            writer.write(np.full((48, 64), 40 * value, np.uint8))
    exact = Fraction(2997, 100) if rate == 29.97 else Fraction(rate)
    assert ffmpeg.times(path) == [k / exact for k in range(5)]
    text = ffmpeg.describe(path)
    assert "yuv420p(tv, bt709" in text
    assert ", 64x48" in text
    grays = ffmpeg.rgb(path, 48, 64)[:, 20, 20]
    assert np.abs(grays.astype(int) - 40 * np.arange(5)[:, np.newaxis]).max() <= 2


def test_planes_are_stored_as_they_are(tmp_path: Path, ffmpeg: Any):
    path = tmp_path / "a.mp4"
    shapes = [(48, 64), (24, 32), (24, 32)]
    rng = np.random.default_rng(0)
    images = [[rng.integers(0, 1024, s).astype("<u2") for s in shapes] for _ in range(3)]
    with VideoWriter(path, rate=10, pix_fmt="yuv420p10le", **LOSSLESS) as writer:
        for planes in images:
            writer.write(planes)
    expected = b"".join(plane.tobytes() for planes in images for plane in planes)
    assert ffmpeg.decode(path, "yuv420p10le") == expected


def test_another_size_than_the_source_may_be_asked_for(clip: Clip, tmp_path: Path, ffmpeg: Any):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=clip("plain.mp4"), size=(33, 51), **LOSSLESS) as writer:
        for _ in range(40):
            writer.write(np.zeros((33, 51, 3), np.uint8))
    assert ", 51x33" in ffmpeg.describe(path)


def write_black(path: Path, source: Path, n: int, then: Exception | None = None) -> None:
    with VideoWriter(path, like=source, **LOSSLESS) as writer:
        for _ in range(n):
            writer.write(np.zeros((64, 96, 3), np.uint8))
        if then:
            raise then


@pytest.mark.parametrize("n", [39, 0])
def test_fewer_frames_than_frames_are_an_error(clip: Clip, n: int, tmp_path: Path):
    with pytest.raises(EncodeError, match=f"{n} frames for the 40 frames of .*plain.mp4"):
        write_black(tmp_path / "a.mp4", clip("plain.mp4"), n)
    assert list(tmp_path.iterdir()) == []


def test_more_frames_than_frames_are_an_error(clip: Clip, tmp_path: Path):
    with pytest.raises(EncodeError, match="frame 41 for the 40 frames"):
        write_black(tmp_path / "a.mp4", clip("plain.mp4"), 41)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_the_block_leaves_what_was_there(clip: Clip, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="stop"):
        write_black(path, clip("plain.mp4"), 1, RuntimeError("stop"))
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]


def test_nothing_has_the_name_before_the_end(clip: Clip, tmp_path: Path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=clip("plain.mp4"), **LOSSLESS) as writer:
        for frame in frames_of(clip("plain.mp4")):
            writer.write(frame)
        assert not path.exists()
    assert load_index(path).n_frames == 40


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 96, 4), np.uint8), r"got uint8 \(64, 96, 4\)"),
        (np.zeros((64, 96, 3), np.float32), r"got float32"),
        (np.zeros(5, np.uint8), r"got uint8 \(5,\)"),
        (np.zeros((48, 96, 3), np.uint8), "frame 0 is 48×96, the video 64×96"),
        ([np.zeros((64, 96), np.uint8)] * 3, r"plane U is uint8 \(64, 96\); yuv420p needs"),
        ([np.zeros((64, 96), np.uint16)] * 3, "plane Y is uint16"),
        ("picture", "got 'picture'"),
    ],
    ids=str,
)
def test_frames_of_another_kind_are_errors(clip: Clip, image: Any, message: str, tmp_path: Path):
    with (
        pytest.raises(EncodeError, match=message),
        VideoWriter(tmp_path / "a.mp4", like=clip("plain.mp4"), **LOSSLESS) as writer,
    ):
        writer.write(image)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a.mp4", {}, "either like, a source, or rate"),
        ("a.mp4", {"rate": 0}, "expected frames per second above 0"),
        ("a.avi", {"rate": 25}, "writes .mp4, .m4v, .mov, .mkv, not '.avi'"),
        ("a.mp4", {"rate": 25, "codec": "ffv1"}, "ffv1 goes into .mkv"),
        ("a.mp4", {"rate": 25, "preset": "p1"}, "output.preset: libx264 has ultrafast"),
        ("a.mp4", {"rate": 25, "crf": 60}, "output.crf"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together_are_errors(
    name: str, arguments: Any, message: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=message):
        VideoWriter(tmp_path / name, **arguments)


def test_a_writer_outside_of_a_block_says_how_it_is_used(tmp_path: Path):
    with pytest.raises(EncodeError, match="'with' block"):
        VideoWriter(tmp_path / "a.mp4", rate=25).write(np.zeros((64, 96, 3), np.uint8))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_a_video_may_have_a_single_frame(codec: Any, tmp_path: Path, ffmpeg: Any):
    path = tmp_path / "a.mkv"
    with VideoWriter(path, rate=25, codec=codec, preset="medium") as writer:
        writer.write(np.full((64, 96), 100, np.uint8))
    assert ffmpeg.times(path) == [0]


def test_a_folder_of_images_may_be_the_source(tmp_path: Path, ffmpeg: Any):
    (tmp_path / "images").mkdir()
    for number in range(3):
        iio.imwrite(tmp_path / f"images/{number}.png", np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=tmp_path / "images", **LOSSLESS) as writer:
        for _ in range(3):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    assert ffmpeg.times(path) == [Fraction(k, 25) for k in range(3)]


@pytest.mark.parametrize("name", ["full_range.mp4", "full_601.mp4", "limited_709.mp4"])
def test_decoded_frames_of_other_colors_look_the_same(
    clip: Clip, name: str, tmp_path: Path, ffmpeg: Any
):
    """A frame of another video is converted to the matrix and range of the one that is written."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=clip("ten_bit_444.mp4"), crf=0, preset="ultrafast") as writer:
        for frame in frames_of(clip(name)):
            writer.write(frame)
    found = ffmpeg.rgb(path, 64, 96).astype(int)
    expected = ffmpeg.rgb(clip(name), 64, 96)
    assert np.abs(found - expected).mean() < 3.5


def test_frames_that_tell_no_colors_are_taken_for_the_source_s(
    clip: Clip, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, like=clip("full_range.mp4"), **LOSSLESS) as writer:
        for frame in frames_of(clip("full_range.mp4")):
            planes = [plane_as_array(frame, number) for number in range(3)]
            plain = av.VideoFrame(frame.width, frame.height, "yuv420p")
            for number, plane in enumerate(planes):
                plane_as_array(plain, number)[...] = plane
            writer.write(plain)
    assert ffmpeg.decode(path, "yuvj420p") == ffmpeg.decode(clip("full_range.mp4"), "yuvj420p")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
def test_h264_and_h265_go_into_every_container(
    codec: Any, suffix: str, clip: Clip, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, like=clip("audio.mp4"), codec=codec, preset="ultrafast") as writer:
        for frame in frames_of(clip("audio.mp4")):
            writer.write(frame)
    text = ffmpeg.describe(path)
    assert {"libx264": "Video: h264", "libx265": "Video: hevc"}[codec] in text
    assert "Audio: aac" in text
    assert ffmpeg.logged_errors(path) == ""
