"""The frame index agrees with FFmpeg and with what is known of the clips."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
import pytest

from pvio.cache.entries import Cache
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex

Clip = Callable[[str], Path]

# Origin: the README next to the clips (FFmpeg 5.1, PyAV 18.1 and torchcodec 0.13 agree on it).
KNOWN_CLIPS = [
    # name, frames, height, width of the upright frame, codec
    ("fly_pair_384.mp4", 1100, 384, 384, "h264"),
    ("fly_arena_1024.mp4", 1500, 1024, 1024, "h264"),
    ("robot_560x320_audio.mp4", 166, 320, 560, "h264"),
    ("mouse_396x406.mp4", 994, 406, 396, "h264"),
    ("tc_nasa_13013.mp4", 390, 270, 480, "h264"),
    ("tc_nasa_13013_rotated.mp4", 17, 480, 270, "h264"),
    ("tc_test_non_zero_start.mp4", 12, None, None, None),
    ("tc_discard_first_keyframe.mp4", 25, None, None, None),
    ("tc_testsrc2_odd_width_444.mp4", 25, 240, 321, None),
    ("tc_testsrc2_odd_height_and_width_444_10bit.mp4", 25, 241, 321, None),
    ("tc_bt709_full_range.mp4", 30, 720, 1280, None),
    ("tc_h265_video.mp4", 10, 128, 128, "hevc"),
    ("tc_testsrc2_vp9.webm", 30, 720, 1280, "vp9"),
    ("tc_av1_video.mkv", 125, 360, 640, "av1"),
    ("tc_testsrc2_mpeg4.avi", 30, 720, 1280, "mpeg4"),
]


# Raw streams and H.264 in AVI carry no presentation times.
WITHOUT_TIMES = ["raw.h264", "b_frames.avi"]


@pytest.mark.parametrize(("name", "frames", "height", "width", "codec"), KNOWN_CLIPS)
def test_real_clips_have_their_known_facts(
    repository: Path,
    name: str,
    frames: int,
    height: int | None,
    width: int | None,
    codec: str | None,
):
    path = repository.parent / "shared" / "videos" / name
    if not path.exists():
        pytest.skip("the real clips are not next to the repository (../shared/videos)")
    index = load_index(path)
    assert index.n_frames == frames
    assert height is None or (index.height, index.width) == (height, width)
    assert codec is None or index.codec == codec


def test_nothing_is_wrong_with_an_undamaged_file(clip: Clip, any_clip: str):
    assert load_index(clip(any_clip)).damage == ""


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("b_frames.mp4", r"it is cut off: \d+ of \d+ bytes are there"),
        ("matroska.mkv", "its container is damaged: File ended prematurely"),
        ("odd_420.webm", "its container is damaged: File ended prematurely"),
        ("mpeg4.avi", r"it is cut off: \d+ of \d+ bytes are there"),
    ],
)
def test_a_file_that_ends_early_is_reported(
    clip: Clip, tmp_path: Path, name: str, damage: str, ffmpeg: Any
):
    path = tmp_path / name
    ffmpeg.run("-v", "error", "-i", clip(name), "-c", "copy", "-movflags", "faststart", path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert re.fullmatch(damage, load_index(path).damage)


@pytest.mark.parametrize("name", ["matroska.mkv", "transport.ts", "odd_420.webm"])
def test_a_file_that_lacks_a_piece_is_reported(clip: Clip, tmp_path: Path, name: str):
    data = clip(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 3] + data[len(data) // 3 + len(data) // 10 :])
    index = load_index(path)
    assert index.n_frames < 40
    assert index.damage != ""


@pytest.mark.parametrize("how", ["removed", "zeroed", "renamed"])
def test_a_lost_fragment_is_reported(clip: Clip, tmp_path: Path, how: str):
    data = bytearray(clip("fragmented.mp4").read_bytes())
    start = data.index(b"moof", data.index(b"moof") + 4) - 4
    end = data.index(b"moof", start + 8) - 4
    if how == "removed":
        del data[start:end]
    else:
        data[start : start + 8] = (
            bytes(8) if how == "zeroed" else data[start : start + 4] + b"mo\0f"
        )
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    index = load_index(path)
    assert index.n_frames < 40
    expected = "1 fragment(s) are missing" if how == "removed" else f"no box at byte {start}"
    assert index.damage == f"its container is damaged: {expected}"


def test_keyframes_of_a_damaged_avi_are_those_where_decoding_can_start(
    clip: Clip, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "a.avi"
    ffmpeg.run("-v", "error", "-i", clip("intra_refresh.mp4"), "-c", "copy", path)
    assert load_index(path).keyframes.tolist() == [0]
    data = bytearray(path.read_bytes())
    start = data.index(b"movi")
    for _ in range(16):
        start = data.index(b"00dc", start + 4)
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    index = load_index(path)
    assert index.damage == "packets that its index lists are lost"
    assert index.n_frames == 40
    assert index.keyframes.tolist() == [0]


def test_a_lost_chunk_of_an_avi_is_reported(clip: Clip, tmp_path: Path):
    data = bytearray(clip("b_frames.avi").read_bytes())
    start = data.index(b"movi")
    for _ in range(16):
        start = data.index(b"00dc", start + 4)
    data[start : start + 8] = bytes(8)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    index = load_index(path)
    assert index.n_frames == 40
    assert index.damage == "packets that its index lists are lost"


def test_a_pipe_is_no_video(tmp_path: Path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UnreadableVideo, match="not a regular file"):
        load_index(tmp_path / "a.mp4")


def test_every_packet_is_a_frame(clip: Clip, any_clip: str, n_frames: int):
    assert load_index(clip(any_clip)).n_frames == n_frames


def test_times_are_those_ffmpeg_shows(clip: Clip, any_clip: str, ffmpeg: Any):
    index, shown = load_index(clip(any_clip)), ffmpeg.times(clip(any_clip))
    if any_clip == "b_frames.avi":  # has decoding times alone: the first frame is shown later
        assert shown[0] > 0
        shown = [time - shown[0] for time in shown]
    assert [int(pts) * index.time_base for pts in index.pts] == shown


@pytest.mark.parametrize("name", WITHOUT_TIMES)
def test_frames_without_times_are_evenly_spaced(clip: Clip, name: str):
    assert np.allclose(load_index(clip(name)).times, np.arange(40) / 25)


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_gop.mkv", "transport.ts", "odd_420.webm"])
def test_keyframes_are_where_the_encoder_was_asked_to_put_them(clip: Clip, name: str):
    assert load_index(clip(name)).keyframes.tolist()[:3] == [0, 12, 24]


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("plain.mp4", 0), ("late_start.mp4", 2.5), ("late_start.mkv", 2.5)],
)
def test_the_first_frame_has_its_time(clip: Clip, name: str, seconds: float):
    assert load_index(clip(name)).times[0] == seconds


def test_uneven_steps_are_kept(clip: Clip):
    # 40 n + 4 (n² mod 5) milliseconds, and 280 more from frame 20 on.
    n = np.arange(40)
    times = load_index(clip("variable_rate.mp4")).times
    assert np.allclose(times * 1000, 40 * n + 4 * (n * n % 5) + 280 * (n >= 20))


def test_the_duration_reaches_to_the_end_of_the_last_frame(clip: Clip):
    assert load_index(clip("late_start.mp4")).duration == pytest.approx(40 / 25)


def test_the_last_frame_of_a_variable_rate_lasts_as_long_as_its_packet(tmp_path: Path, ffmpeg: Any):
    path = tmp_path / "uneven.mp4"
    ffmpeg.run(
        *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=96x64:rate=30:duration=2"),
        *("-vf", "select='not(mod(n,3))+gt(n,30)'", "-fps_mode", "vfr", path),
    )
    assert load_index(path).duration == pytest.approx(2.0, abs=1e-4)
    seconds = re.search(r"Duration: 00:00:0([\d.]+)", ffmpeg.describe(path))
    assert seconds is not None
    assert load_index(path).duration == pytest.approx(float(seconds[1]), abs=0.01)


def test_the_size_is_that_of_the_frame(clip: Clip, any_clip: str):
    index = load_index(clip(any_clip))
    assert (index.height, index.width) == ((65, 97) if "odd" in any_clip else (64, 96))


@pytest.mark.parametrize(
    ("degrees", "size"), [(0, (64, 96)), (90, (96, 64)), (180, (64, 96)), (270, (96, 64))]
)
def test_the_size_of_a_turned_video_is_that_of_the_upright_frame(
    rotated_clip: Callable[..., Path], degrees: int, size: tuple[int, int]
):
    index = load_index(rotated_clip(degrees))
    assert (index.height, index.width) == size


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("plain.mp4", "h264", "yuv420p"),
        ("hevc_open_gop.mp4", "hevc", "yuv420p"),
        ("odd_420.webm", "vp9", "yuv420p"),
        ("ten_bit.mp4", "h264", "yuv420p10le"),
        ("full_range.mp4", "h264", "yuvj420p"),
        ("mpeg4.avi", "mpeg4", "yuv420p"),
        ("program.mpg", "mpeg2video", "yuv420p"),
    ],
)
def test_codec_and_pixel_format_are_known(clip: Clip, name: str, codec: str, pix_fmt: str):
    index = load_index(clip(name))
    assert (index.codec, index.pix_fmt) == (codec, pix_fmt)


def test_colour_tags_are_those_of_the_stream(clip: Clip):
    # ITU-T H.273: full range, and 1 is bt709 for matrix, primaries and transfer.
    assert load_index(clip("full_range.mp4")).color == (2, 1, 1, 1)


def test_audio_streams_are_counted(clip: Clip):
    assert load_index(clip("audio.mp4")).n_audio_streams == 1
    assert load_index(clip("plain.mp4")).n_audio_streams == 0


def same(a: FrameIndex, b: FrameIndex) -> bool:
    plain = [{**vars(index), "pts": None, "keyframes": None} for index in (a, b)]
    arrays = np.array_equal(a.pts, b.pts) and np.array_equal(a.keyframes, b.keyframes)
    return arrays and plain[0] == plain[1]


@pytest.fixture
def video(clip: Clip, tmp_path: Path) -> Path:
    """A clip that may be changed."""
    return Path(shutil.copy(clip("b_frames.mp4"), tmp_path / "video.mp4"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


def test_a_second_load_opens_no_video(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, any_clip: str, clip: Clip
):
    first = load_index(clip(any_clip), cache)
    monkeypatch.setattr(av, "open", lambda *args, **kwargs: pytest.fail("the video was opened"))
    assert same(load_index(clip(any_clip), cache), first)


def test_a_changed_file_is_indexed_anew(video: Path, cache: Cache, clip: Clip, ffmpeg: Any):
    before = load_index(video, cache)
    ffmpeg.run("-v", "error", "-i", clip("b_frames.mp4"), "-frames:v", 9, "-c:v", "libx264", video)
    after = load_index(video, cache)
    assert after.n_frames == 9
    assert after.content_digest != before.content_digest


def test_a_damaged_entry_of_the_store_is_built_anew(video: Path, cache: Cache):
    first = load_index(video, cache)
    (entry,) = [path for path in cache.root.rglob("*") if path.is_file()]
    entry.write_bytes(entry.read_bytes()[:-3])
    assert same(load_index(video, cache), first)


def test_a_touched_file_has_the_same_digest(video: Path, cache: Cache):
    before = load_index(video, cache).content_digest
    os.utime(video, ns=(0, 10**18))
    assert load_index(video, cache).content_digest == before


def test_a_renamed_file_has_the_same_digest(video: Path):
    before = load_index(video).content_digest
    assert load_index(video.rename(video.with_name("other.mp4"))).content_digest == before


def test_other_frames_have_another_digest(clip: Clip):
    assert (
        load_index(clip("plain.mp4")).content_digest
        != load_index(clip("b_frames.mp4")).content_digest
    )


def test_an_empty_file_is_unreadable(tmp_path: Path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UnreadableVideo, match="empty"):
        load_index(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.m4v", "a.h264", "a.mjpeg", "a.y4m", "a.ts"])
def test_the_reason_names_what_a_file_is_that_is_no_video(tmp_path: Path, name: str):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for content, message in (
        (b"no video\n" * 100, "it is a text file"),
        (b"Anf\xe4lle der M\xe4use vom Mai, abgetippt\n" * 9, "it is a text file"),
        (("a" + "\u20ac" * 9999).encode(), "it is a text file"),
        ("keine Videos\n".encode("utf-16"), "it is a text file"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "it is an HTML page"),
        (b"PK\x03\x04" + bytes(range(256)), "it is a ZIP archive"),
        (pointer, "it is a Git LFS pointer: run git lfs pull"),
        (bytes(10_000), "it is empty of data: all zeros"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableVideo, match=f"{message}$"):
            load_index(tmp_path / name)


def test_the_beginning_of_a_video_is_nothing_else(clip: Clip, tmp_path: Path):
    whole = Path(clip("plain.mp4")).read_bytes()
    for content in (whole[:9], whole[:40], bytes(10_000) + whole[9:40], b"RIFF", b"YUV4MPEG2 W8\n"):
        (tmp_path / "a.mp4").write_bytes(content)
        with pytest.raises(UnreadableVideo) as caught:
            load_index(tmp_path / "a.mp4")
        assert "it is" not in str(caught.value)


def test_an_audio_file_is_unreadable(tmp_path: Path, ffmpeg: Any):
    ffmpeg.run("-v", "error", "-f", "lavfi", "-i", "sine=duration=0.2", tmp_path / "a.mp4")
    with pytest.raises(UnreadableVideo, match="no video stream"):
        load_index(tmp_path / "a.mp4")


@pytest.mark.parametrize("stored", [False, True])
def test_an_absent_file_is_unreadable(tmp_path: Path, stored: bool):
    with pytest.raises(UnreadableVideo, match=r"(?i)no such file"):
        load_index(tmp_path / "a.mp4", Cache(tmp_path) if stored else None)


def test_a_file_whose_end_with_the_header_is_lost_is_unreadable(video: Path):
    video.write_bytes(video.read_bytes()[:2000])
    with pytest.raises(UnreadableVideo, match="cut short"):
        load_index(video)


def test_an_unreadable_file_is_named_in_the_error(tmp_path: Path):
    with pytest.raises(UnreadableVideo) as caught:
        load_index(tmp_path / "gone.mp4")
    assert caught.value.path == str(tmp_path / "gone.mp4")
    assert "gone.mp4" in str(caught.value)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        iio.imwrite(folder / f"{i:03}.png", np.full((20, 30, 3), i * 40, np.uint8))
    return folder


def test_a_folder_of_images_has_one_frame_an_image(image_folder: Path):
    index = load_index(image_folder)
    assert (index.n_frames, index.height, index.width) == (5, 20, 30)
    assert index.keyframes.tolist() == [0, 1, 2, 3, 4]


def test_an_added_image_is_found(image_folder: Path, cache: Cache):
    before = load_index(image_folder, cache)
    shutil.copy(image_folder / "004.png", image_folder / "005.png")
    after = load_index(image_folder, cache)
    assert (before.n_frames, after.n_frames) == (5, 6)
    assert before.content_digest != after.content_digest


def test_an_index_of_images_is_stored(
    image_folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    first = load_index(image_folder, cache)
    monkeypatch.setattr("pvio.media.index.build.survey_images", lambda *_: pytest.fail("opened"))
    assert same(load_index(image_folder, cache), first)


def test_a_folder_without_images_is_unreadable(tmp_path: Path):
    with pytest.raises(UnreadableVideo, match="no image"):
        load_index(tmp_path)


def test_a_folder_none_of_whose_images_can_be_read_is_unreadable(image_folder: Path):
    for file in image_folder.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(UnreadableVideo, match=r"none of its 5 images.*no readable image"):
        load_index(image_folder)


@pytest.mark.parametrize("damaged", ["000.png", "002.png"])
def test_a_damaged_image_costs_its_row_alone(image_folder: Path, damaged: str):
    (image_folder / damaged).write_bytes(b"")
    index = load_index(image_folder)
    assert (index.n_frames, index.height, index.width) == (5, 20, 30)
    statuses = [frame.status for frame in open_reader(index).frames(0, 5)]
    assert statuses == ["missing" if f"{i:03}.png" == damaged else "ok" for i in range(5)]
