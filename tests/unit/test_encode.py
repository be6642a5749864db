"""Re-encoded frames: the source's samples, times, size and color, whatever the segments."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
import pytest
from clips import B_FRAMES
from clips import source as moving_picture
from encoding import encoded, reencode
from formats import rows

from pvio.errors import ModelError
from pvio.inference.overlay import OverlayRenderer
from pvio.media.decode.reader import open_reader
from pvio.media.encode.concat import concat_segments
from pvio.media.encode.format import output_format
from pvio.media.encode.model_frames import ModelFrameWriter
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.planes import plane_as_array
from pvio.pipeline.planning.segments import cut_segments

Clip = Callable[[str], Path]


def test_every_frame_is_there(clip: Clip, any_clip: str, reencoded: Any, ffmpeg: Any):
    assert len(ffmpeg.times(reencoded(clip(any_clip)))) == 40


# FFmpeg makes up times for raw streams and H.264 in AVI; repeated times cannot stay as they are.
WITH_TIMES = [
    "plain.mp4", "b_frames.mp4", "open_gop.mkv", "hevc_open_gop.mp4", "variable_rate.mp4",
    "late_start.mp4", "late_start.mkv", "odd_444.mp4", "odd_420.webm", "audio.mp4", "matroska.mkv",
    "mpeg4.avi", "transport.ts", "program.mpg", "ten_bit.mp4", "full_range.mp4", "rgb.mkv",
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_TIMES)
def test_timed_videos_are_cut_into_several_segments(clip: Clip, name: str):
    assert len(cut_segments(load_index(clip(name)), 10)) >= 3


@pytest.mark.parametrize("name", WITH_TIMES)
def test_times_are_exactly_those_of_the_source(clip: Clip, name: str, reencoded: Any, ffmpeg: Any):
    assert ffmpeg.times(reencoded(clip(name))) == ffmpeg.times(clip(name))


def test_repeated_times_move_by_less_than_a_frame(clip: Clip, reencoded: Any, ffmpeg: Any):
    times = ffmpeg.times(reencoded(clip("repeated_times.mkv")))
    assert times == sorted(set(times))
    # 3000 frames per second in a container of milliseconds: up to three frames share a time.
    assert times[0] == 0
    assert all(b - a >= Fraction(1, 1000) for a, b in itertools.pairwise(times))


def test_ffmpeg_logs_no_error(clip: Clip, any_clip: str, reencoded: Any, ffmpeg: Any):
    assert ffmpeg.logged_errors(reencoded(clip(any_clip))) == ""


def test_the_size_is_kept(clip: Clip, any_clip: str, reencoded: Any, ffmpeg: Any):
    size = "97x65" if "odd" in any_clip else "96x64"
    assert f", {size}" in ffmpeg.describe(reencoded(clip(any_clip)))


# The format of the source, and that of the re-encoded video.
UNTOUCHED = [
    ("b_frames.mp4", "auto", "yuv420p"),
    ("variable_rate.mp4", "auto", "yuv420p"),
    ("full_range.mp4", "auto", "yuvj420p"),
    ("odd_444.mp4", "auto", "yuv444p"),
    ("ten_bit.mp4", "auto", "yuv420p10le"),
    ("hevc_main10.mkv", "auto", "yuv420p10le"),
    ("ten_bit_444.mp4", "source", "yuv444p10le"),
    ("h264_422.mp4", "source", "yuv422p"),
    ("mjpeg.mov", "source", "yuvj422p"),
]


@pytest.mark.parametrize(("name", "pix_fmt", "stored"), UNTOUCHED, ids=lambda value: value)
@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_untouched_samples_are_kept_bit_for_bit(
    clip: Clip, name: str, pix_fmt: str, stored: str, codec: str, reencoded: Any, ffmpeg: Any
):
    made = reencoded(clip(name), codec=codec, pix_fmt=pix_fmt)
    # FFV1 has the tag of full range in the container alone, FFmpeg's "j" formats are the same.
    assert stored.replace("j", "") in ffmpeg.describe(made).replace("yuvj", "yuv")
    assert ffmpeg.decode(made, stored) == ffmpeg.decode(clip(name), stored)


REAL = [
    ("fly_pair_384.mp4", "yuv420p"),
    ("mouse_396x406.mp4", "yuv420p"),
    ("robot_560x320_audio.mp4", "yuv420p"),
    ("tc_discard_first_keyframe.mp4", "yuv420p"),
    ("tc_h265_video.mp4", "yuv420p"),
    ("tc_nasa_13013_rotated.mp4", "yuv420p"),
    ("tc_bt709_full_range.mp4", "yuvj420p"),
    ("tc_test_non_zero_start.mp4", "yuv420p"),
    ("tc_testsrc2_odd_width_444.mp4", "yuv444p"),
    ("tc_testsrc2_odd_height_and_width_444_10bit.mp4", "yuv444p10le"),
]


@pytest.mark.parametrize(("name", "stored"), REAL)
def test_real_videos_keep_samples_times_and_colors(
    real_clip: Clip, name: str, stored: str, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    source = real_clip(name)
    made = reencode(source, settings_for(), tmp_path / "a.mp4", length=100)
    assert ffmpeg.times(made) == ffmpeg.times(source)
    assert md5(ffmpeg, made, stored) == md5(ffmpeg, source, stored)
    assert colour_tags(ffmpeg.describe(made)) == colour_tags(ffmpeg.describe(source))


def md5(ffmpeg: Any, path: Path, pix_fmt: str) -> list[str]:
    """Digest of every frame."""
    text = ffmpeg.run(
        *("-v", "error", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-pix_fmt", pix_fmt, "-f", "framemd5", "-"),
    ).stdout.decode()
    return [line.split(",")[-1].strip() for line in text.splitlines() if line[0] != "#"]


@pytest.mark.parametrize("name", ["b_frames.mp4", "ten_bit.mp4", "odd_444.mp4", "full_range.mp4"])
def test_what_is_drawn_changes_nothing_around_it(
    clip: Clip, name: str, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    source = clip(name)
    made = reencode(source, settings_for("Spot"), tmp_path / "a.mp4")
    height, width = (65, 97) if "odd" in name else (64, 96)
    form = {"ten_bit.mp4": "yuv420p10le", "odd_444.mp4": "yuv444p", "full_range.mp4": "yuvj420p"}
    stored = form.get(name, "yuv420p")
    found = ffmpeg.luma(made, height, width, stored)
    expected = ffmpeg.luma(source, height, width, stored)
    rows, columns = np.ogrid[:height, :width]
    outside = np.hypot(rows - 32, columns - 48) > 8
    assert (found[:, outside] == expected[:, outside]).all()
    # Red: ITU-R BT.601 luma 81 (untagged), BT.709 in full range 54; four times as much in 10 bits.
    red = {"full_range.mp4": 54, "ten_bit.mp4": 326}.get(name, 81)
    assert (found[:, 32, 48] == red).all()


@pytest.mark.parametrize("name", ["odd_420.webm", "ffv1_gray16.mkv", "h264_422.mp4"])
def test_luma_is_kept_where_chroma_is_converted(
    clip: Clip, name: str, settings_for: Any, tmp_path: Path
):
    made = reencode(clip(name), settings_for(), tmp_path / "a.mp4")
    assert luma_of(made).shape == luma_of(clip(name)).shape
    difference = luma_of(made) - (luma_of(clip(name)) / (64 if "16" in name else 1))
    assert np.abs(difference).max() <= (0.5 if "16" in name else 0)


def luma_of(path: Path) -> np.ndarray:
    """The Y planes as PyAV decodes them, N×H×W."""
    with av.open(str(path)) as video:
        return np.stack([plane_as_array(f, 0).astype(float) for f in video.decode(video=0)])


def test_gray_gets_neutral_chroma(clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any):
    made = reencode(clip("ffv1_gray16.mkv"), settings_for(), tmp_path / "a.mp4")
    raw = np.frombuffer(ffmpeg.decode(made, "yuv420p10le"), "<u2").reshape(40, -1)
    assert (raw[:, 64 * 96 :] == 512).all()


@pytest.mark.parametrize(("container", "pix_fmt"), [("mkv", "gray16le"), ("avi", "gray")])
def test_gray_looks_the_same(
    container: str, pix_fmt: str, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    source = tmp_path / f"a.{container}"
    ffmpeg.run("-v", "error", *moving_picture(), "-c:v", "ffv1", "-pix_fmt", pix_fmt, source)
    made = reencode(source, settings_for(), tmp_path / "b.mp4")
    difference = ffmpeg.rgb(made, 64, 96).astype(int) - ffmpeg.rgb(source, 64, 96)
    assert np.abs(difference).max() <= (1 if "16" in pix_fmt else 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_grays(channels: int, settings_for: Any, tmp_path: Path, ffmpeg: Any):
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))
    (tmp_path / "images").mkdir()
    for number in range(3):
        pixels = ramp if channels == 1 else np.stack([ramp] * 3, axis=2)
        iio.imwrite(tmp_path / f"images/{number}.png", pixels)
    made = reencode(tmp_path / "images", settings_for(), tmp_path / "a.mp4")
    assert "yuv420p(tv, bt709" in ffmpeg.describe(made)
    shown = ffmpeg.rgb(made, 64, 96).astype(int)
    assert len(shown) == 3
    assert np.abs(shown - ramp[..., np.newaxis]).max() <= 2


@pytest.mark.parametrize(
    ("name", "output", "stored"),
    [
        ("plain.mp4", {}, "yuv420p"),
        ("ten_bit.mp4", {}, "yuv420p10le"),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p"}, "yuv420p"),
        ("ten_bit.mp4", {"codec": "h264_nvenc"}, "yuv420p"),
        ("ten_bit.mp4", {"codec": "hevc_nvenc"}, "yuv420p10le"),
        ("ten_bit_444.mp4", {}, "yuv420p10le"),
        ("ffv1_gray16.mkv", {}, "yuv420p10le"),
        ("ffv1_gray16.mkv", {"codec": "ffv1"}, "yuv420p16le"),
        ("h264_422.mp4", {}, "yuv420p"),
        ("h264_422.mp4", {"codec": "ffv1"}, "yuv422p"),
        ("h264_422.mp4", {"pix_fmt": "source", "codec": "hevc_nvenc"}, "yuv444p"),
        ("odd_420.webm", {}, "yuv444p"),
        ("odd_420.webm", {"codec": "ffv1"}, "yuv420p"),
        ("odd_444.mp4", {"pix_fmt": "yuv420p"}, "yuv444p"),
        ("rgb.mkv", {}, "yuv420p"),
        ("rgb.mkv", {"pix_fmt": "source"}, "yuv444p"),
    ],
    ids=str,
)
def test_the_pixel_format_is_the_one_asked_for_or_the_nearest(
    clip: Clip, name: str, output: dict[str, str], stored: str, settings_for: Any
):
    chosen = output_format(load_index(clip(name)), settings_for(**output).output)
    assert chosen.pix_fmt == stored


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_ten_bits_become_eight_when_asked_for(clip: Clip, codec: str, reencoded: Any, ffmpeg: Any):
    made = reencoded(clip("ten_bit.mp4"), codec=codec, pix_fmt="yuv420p")
    assert "yuv420p(" in ffmpeg.describe(made)
    expected = ffmpeg.luma(clip("ten_bit.mp4"), 64, 96, "yuv420p10le") / 4
    assert np.abs(ffmpeg.luma(made, 64, 96) - expected).max() <= 1


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
def test_the_shape_of_pixels_is_kept(codec: str, settings_for: Any, tmp_path: Path, ffmpeg: Any):
    source = tmp_path / "wide.mp4"
    ffmpeg.run("-v", "error", *moving_picture(), "-vf", "setsar=4/3", *B_FRAMES, source)
    settings = settings_for(codec=codec)
    made = reencode(source, settings, tmp_path / f"a{settings.output.suffix}")
    shown = ffmpeg.run("-i", made, "-vf", "showinfo", "-f", "null", "-").stderr.decode()
    assert set(re.findall(r" sar:(\S+)", shown)) == {"4/3"}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_stored_upright(
    rotated_clip: Callable[..., Path], degrees: int, mirrored: bool, reencoded: Any, ffmpeg: Any
):
    source = rotated_clip(degrees, mirrored)
    size = (96, 64) if degrees % 180 else (64, 96)
    assert np.array_equal(ffmpeg.luma(reencoded(source), *size), ffmpeg.luma(source, *size))
    assert "rotation" not in ffmpeg.describe(reencoded(source))


def test_an_rgb_video_keeps_its_colors(clip: Clip, reencoded: Any, ffmpeg: Any):
    difference = np.abs(
        ffmpeg.rgb(reencoded(clip("rgb.mkv")), 64, 96).astype(int)
        - ffmpeg.rgb(clip("rgb.mkv"), 64, 96)
    )
    # Chroma at half the resolution: right but for edges.
    assert np.median(difference) <= 3


def test_an_rgb_video_keeps_primaries_and_transfer(tmp_path: Path, settings_for: Any, ffmpeg: Any):
    source = tmp_path / "hdr.mkv"
    tags = ("-vf", "format=rgb24,setparams=color_primaries=bt2020:color_trc=smpte2084")
    ffmpeg.run("-v", "error", *moving_picture(), *tags, "-c:v", "libx264rgb", "-g", "12", source)
    made = reencode(source, settings_for(), tmp_path / "a.mp4")
    assert "bt709/bt2020/smpte2084" in ffmpeg.describe(made)


def colour_tags(text: str) -> str:
    """Range, matrix, primaries and transfer as FFmpeg prints them; the range alone for some.

    The limited range is not distinguished from none, since x264 writes it next to other tags only.
    """
    match = re.search(r"Video: .*?, yuvj?4\d\dp\d*(?:le)?(?:\(([^)]*)\))?,", text)
    assert match is not None, text
    tags = [tag for tag in (match[1] or "").split(", ") if tag != "progressive"]
    return "" if tags == ["tv"] else ", ".join(tags)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
@pytest.mark.parametrize(
    "name", ["full_range.mp4", "b_frames.mp4", "odd_444.mp4", "limited_709.mp4", "full_601.mp4"]
)
def test_colour_tags_are_those_of_the_source(
    clip: Clip, name: str, codec: str, reencoded: Any, ffmpeg: Any
):
    source = ffmpeg.describe(clip(name))
    assert colour_tags(ffmpeg.describe(reencoded(clip(name), codec=codec))) == colour_tags(source)


def test_full_range_is_tagged(clip: Clip, reencoded: Any, ffmpeg: Any):
    assert colour_tags(ffmpeg.describe(reencoded(clip("full_range.mp4")))).startswith("pc, bt709")


def test_a_video_has_the_same_frames_however_it_is_cut(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("b_frames.mp4"))
    videos = set()
    for length in (10, 1000):
        path = tmp_path / f"{length}.mp4"
        concat_segments(encoded(index, settings_for(), length), index, path)
        videos.add(ffmpeg.decode(path, "yuv420p"))
    assert len(videos) == 1


def test_encoding_again_gives_the_same_bytes(clip: Clip, settings_for: Any):
    index = load_index(clip("b_frames.mp4"))
    settings = settings_for(crf=23, preset="medium")
    results = {encoded(index, settings, index.n_frames)[0][2] for _ in range(16)}
    assert len(results) == 1


@pytest.mark.parametrize("preset", ["ultrafast", "medium", "veryslow"])
def test_any_preset_joins(clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any, preset: str):
    index = load_index(clip("variable_rate.mp4"))
    path = tmp_path / "a.mp4"
    concat_segments(encoded(index, settings_for(crf=23, preset=preset)), index, path)
    assert ffmpeg.times(path) == ffmpeg.times(clip("variable_rate.mp4"))
    assert ffmpeg.logged_errors(path) == ""


def test_frames_of_another_size_are_scaled(settings_for: Any, tmp_path: Path, ffmpeg: Any):
    case = next(case for case in rows.CASES if case.name == "sizes_h264.mkv")
    case.make(ffmpeg, source := tmp_path / case.name)
    path = reencode(source, settings_for(), tmp_path / "out.mkv")
    luma = ffmpeg.luma(path, *case.size)
    assert luma.mean((1, 2)) == pytest.approx(np.array(case.means), abs=1)
    with av.open(str(source)) as container:
        whole = [plane_as_array(frame, 0) for frame in container.decode(video=0)][8:]
    assert (luma[8:] == np.stack(whole)).all()


def test_of_a_video_without_size_nothing_is_written(settings_for: Any, tmp_path: Path, ffmpeg: Any):
    case = next(case for case in rows.CASES if case.name == "no_size.ts")
    case.make(ffmpeg, source := tmp_path / case.name)
    index, done, file = load_index(source), [], io.BytesIO()
    made = [{"frame": n, "status": "missing"} for n in range(index.n_frames)]
    assert (
        OverlayRenderer(settings_for()).encode(file, index, 0, index.n_frames, made, done.append)
        == ""
    )
    with ModelFrameWriter(file, index, 0, settings_for().output) as writer:
        writer.set_fallback(np.zeros((0, 0, 1), np.uint8))
        writer.write(None, "missing")
    assert (file.getvalue(), sum(done)) == (b"", index.n_frames)


def test_a_failing_draw_names_the_frame(clip: Clip, settings_for: Any):
    with pytest.raises(ModelError, match=r"draw\(\) failed on frame 0.*no brush"):
        encoded(load_index(clip("plain.mp4")), settings_for("Failing"))


def test_progress_counts_every_frame(clip: Clip, settings_for: Any):
    index = load_index(clip("plain.mp4"))
    steps: list[int] = []
    rows = [{"frame": frame_number} for frame_number in range(40)]
    OverlayRenderer(settings_for()).encode(io.BytesIO(), index, 0, 40, rows, steps.append)
    assert sum(steps) == 40


@pytest.fixture
def half_lost(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip whose second half is lost since it was indexed."""
    return halved(clip("matroska.mkv"), tmp_path / "half.mkv")


def halved(source: Path, path: Path) -> FrameIndex:
    path.write_bytes(source.read_bytes())
    index = load_index(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return index


# What the frame and the word that mark a damaged row leave free.
INSIDE = (slice(8, 36), slice(8, 88))


def test_rows_of_unusable_frames_repeat_the_last_one(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    concat_segments(encoded(half_lost, settings_for(), 1000), half_lost, path)
    found = ffmpeg.luma(path, 64, 96)
    status = [frame.status for frame in open_reader(half_lost).frames(0, 40)]
    first = status.index("missing")
    assert len(found) == 40
    for image in found[first:]:
        assert np.array_equal(image[INSIDE], found[first - 1][INSIDE])


def test_rows_of_unusable_frames_are_marked_in_red(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    concat_segments(encoded(half_lost, settings_for(), 1000), half_lost, path)
    red, green, blue = ffmpeg.rgb(path, 64, 96)[-1, 32, 0].astype(int)
    assert red > 200
    assert max(green, blue) < 60


def test_rows_of_unusable_frames_repeat_that_of_an_earlier_segment(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    concat_segments(encoded(half_lost, settings_for(), 12), half_lost, path)
    found = ffmpeg.luma(path, 64, 96)
    status = [frame.status for frame in open_reader(half_lost).frames(0, 40)]
    first = status.index("missing")
    assert first < 24  # so that the last segments have no frame of their own
    assert np.array_equal(found[-1][INSIDE], found[first - 1][INSIDE])


@pytest.fixture
def start_lost(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip of which the packets of the first GOP are lost since it was indexed."""
    path = tmp_path / "start.mp4"
    path.write_bytes(clip("ten_bit.mp4").read_bytes())
    index = load_index(path)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size][:12]
    data = bytearray(path.read_bytes())
    for position, size in packets:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    return index


def test_a_row_that_is_lost_is_not_drawn_though_encode_can_decode_it(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("plain.mp4"))
    rows = [
        {"frame": frame_number, "status": "missing" if frame_number == 20 else "ok"}
        for frame_number in range(40)
    ]
    file = io.BytesIO()
    OverlayRenderer(settings_for("Spot")).encode(file, index, 0, 40, rows, lambda n: None)
    concat_segments([(0, 40, file.getvalue())], index, tmp_path / "out.mp4")
    found = ffmpeg.luma(tmp_path / "out.mp4", 64, 96)
    source = ffmpeg.luma(clip("plain.mp4"), 64, 96)
    aside = (slice(40, 58), slice(60, 88))  # neither mark nor spot
    assert np.array_equal(found[20][aside], source[19][aside])
    assert not np.array_equal(source[20][aside], source[19][aside])
    assert found[20, 32, 48] == source[19, 32, 48]  # no spot


@pytest.mark.parametrize(
    "output", [{"codec": "ffv1"}, {"pix_fmt": "source"}, {"pix_fmt": "yuv422p"}]
)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_videos_of_4_2_2_keep_their_luma(
    degrees: int, output: dict[str, str], clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    source = tmp_path / "turned.mp4"
    turn = ["-display_rotation", degrees]
    ffmpeg.run("-v", "error", *turn, "-i", clip("h264_422.mp4"), "-c", "copy", source)
    path = tmp_path / ("out.mkv" if "codec" in output else "out.mp4")
    reencode(source, settings_for(**output), path)
    size = (64, 96) if degrees == 180 else (96, 64)
    found, expected = (
        np.frombuffer(
            ffmpeg.decode(each, "gray", "-vf", "format=yuv444p,extractplanes=y"), np.uint8
        )
        for each in (path, source)  # FFmpeg turns the source by itself
    )
    assert len(found) == 40 * size[0] * size[1]
    assert np.array_equal(found, expected)


def test_rows_before_the_first_usable_frame_are_black(
    start_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    concat_segments(encoded(start_lost, settings_for(), 12), start_lost, path)
    found = ffmpeg.luma(path, 64, 96, "yuv420p10le")
    # 16 is black in the limited range of 8 bits, 64 in that of 10, ITU-R BT.601.
    assert (found[:12, INSIDE[0], INSIDE[1]] == 64).all()
    assert found[12][INSIDE].max() > 255
    assert len(found) == 40


def test_rows_of_unusable_frames_are_repeated_in_ten_bits_too(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = halved(clip("hevc_main10.mkv"), tmp_path / "half.mkv")
    path = tmp_path / "out.mp4"
    concat_segments(encoded(index, settings_for(), 1000), index, path)
    found = ffmpeg.luma(path, 64, 96, "yuv420p10le")
    assert len(found) == 40
    assert np.array_equal(found[-1][INSIDE], found[-2][INSIDE])
    assert found[-1][INSIDE].max() > 255
