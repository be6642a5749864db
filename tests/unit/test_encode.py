"""Re-encoded videos: the source's times, size, colours and sound, whatever the segments."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvio.config import Settings, parse_settings
from pvio.errors import EncodeError, ModelError
from pvio.media.frames_output import FramesWriter
from pvio.media.index import FrameIndex, load_index
from pvio.media.read import open_reader
from pvio.media.stitch import join_segments, strictly_ascending
from pvio.plan import cut_segments
from pvio.stages.encode import Painter
from pvio.store import replacing

Clip = Callable[[str], Path]

MODELS = """
class Quiet:
    def __call__(self, frames):
        return frames
    def draw(self, canvas, row):
        pass

class Failing(Quiet):
    def draw(self, canvas, row):
        raise ValueError("no brush")
"""


@pytest.fixture(scope="module")
def settings_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Settings]]:
    """Settings with a model of `MODELS` that draws nothing, lossless unless told."""
    file = tmp_path_factory.mktemp("models") / "encode_models.py"
    file.write_text(MODELS)
    path = sys.path.copy()

    def make(name: str = "Quiet", **output: Any) -> Settings:
        output = {"crf": 0, "preset": "ultrafast", **output}
        return parse_settings({"model": {"entry": f"{file}:{name}"}, "output": output})

    yield make
    sys.path[:] = path


def encoded(
    index: FrameIndex, settings: Settings, length: int = 10
) -> list[tuple[int, int, bytes]]:
    """All segments of a video, encoded one by one."""
    painter = Painter(settings)
    result = []
    for segment in cut_segments(index, length):
        file = io.BytesIO()
        span = (segment.start, segment.stop)
        rows = [{"frame": rank, "status": "ok"} for rank in range(*span)]
        painter.encode(file, index, *span, rows, lambda n: None)
        result.append((*span, file.getvalue()))
    return result


@pytest.fixture(scope="module")
def reencoded(settings_for: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The re-encoded video of a source, of four segments, lossless."""
    folder = tmp_path_factory.mktemp("reencoded")

    def path_of(source: Path) -> Path:
        path = folder / f"{source.name}.mp4"
        if not path.exists():
            index = load_index(source)
            with replacing(path) as temporary:
                join_segments(encoded(index, settings_for()), index, temporary)
        return path

    return path_of


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
    # 3000 frames a second in a container of milliseconds: up to three frames share a time.
    assert times[0] == 0
    assert all(b - a >= Fraction(1, 1000) for a, b in itertools.pairwise(times))


def test_ffmpeg_has_no_complaint(clip: Clip, any_clip: str, reencoded: Any, ffmpeg: Any):
    assert ffmpeg.complaints(reencoded(clip(any_clip))) == ""


def test_the_size_is_kept(clip: Clip, any_clip: str, reencoded: Any, ffmpeg: Any):
    size = "97x65" if "odd" in any_clip else "96x64"
    assert f", {size}" in ffmpeg.describe(reencoded(clip(any_clip)))


UNTOUCHED = ["b_frames.mp4", "variable_rate.mp4", "odd_444.mp4", "odd_420.webm", "full_range.mp4"]


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched_luma_is_kept_bit_for_bit(clip: Clip, name: str, reencoded: Any, ffmpeg: Any):
    height, width = (65, 97) if "odd" in name else (64, 96)
    range_of = "j" if "full" in name else ""
    given, made = ("444" if "odd_444" in name else "420"), ("444" if "odd" in name else "420")
    expected = ffmpeg.luma(clip(name), height, width, f"yuv{range_of}{given}p")
    found = ffmpeg.luma(reencoded(clip(name)), height, width, f"yuv{range_of}{made}p")
    assert np.array_equal(found, expected)


def test_untouched_chroma_is_kept_bit_for_bit(clip: Clip, reencoded: Any, ffmpeg: Any):
    source = clip("b_frames.mp4")
    assert ffmpeg.decode(reencoded(source), "yuv420p") == ffmpeg.decode(source, "yuv420p")


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_stored_upright(
    rotated_clip: Callable[..., Path], degrees: int, mirrored: bool, reencoded: Any, ffmpeg: Any
):
    source = rotated_clip(degrees, mirrored)
    size = (96, 64) if degrees % 180 else (64, 96)
    assert np.array_equal(ffmpeg.luma(reencoded(source), *size), ffmpeg.luma(source, *size))
    assert "rotation" not in ffmpeg.describe(reencoded(source))


def test_ten_bits_become_eight(clip: Clip, reencoded: Any, ffmpeg: Any):
    expected = ffmpeg.luma(clip("ten_bit.mp4"), 64, 96, "yuv420p10le") >> 2
    found = ffmpeg.luma(reencoded(clip("ten_bit.mp4")), 64, 96)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_an_rgb_video_keeps_its_colours(clip: Clip, reencoded: Any, ffmpeg: Any):
    difference = np.abs(
        ffmpeg.rgb(reencoded(clip("rgb.mkv")), 64, 96).astype(int)
        - ffmpeg.rgb(clip("rgb.mkv"), 64, 96)
    )
    # Chroma at half the resolution: right but for edges.
    assert np.median(difference) <= 3


def colour_tags(text: str) -> str:
    """Range, matrix, primaries and transfer as FFmpeg prints them; the range alone for some."""
    match = re.search(r"Video: .*? yuvj?4\d\dp\d*(?:le)?\((.*?)(?:, )?progressive\)", text)
    assert match is not None, text
    return match[1]


@pytest.mark.parametrize("name", ["full_range.mp4", "b_frames.mp4", "odd_444.mp4", "audio.mp4"])
def test_colour_tags_are_those_of_the_source(clip: Clip, name: str, reencoded: Any, ffmpeg: Any):
    source = ffmpeg.describe(clip(name))
    assert colour_tags(ffmpeg.describe(reencoded(clip(name)))) == colour_tags(source)


def test_full_range_is_tagged(clip: Clip, reencoded: Any, ffmpeg: Any):
    assert colour_tags(ffmpeg.describe(reencoded(clip("full_range.mp4")))).startswith("pc, bt709")


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


def test_a_video_has_the_same_pictures_however_it_is_cut(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("b_frames.mp4"))
    videos = set()
    for length in (10, 1000):
        path = tmp_path / f"{length}.mp4"
        join_segments(encoded(index, settings_for(), length), index, path)
        videos.add(ffmpeg.decode(path, "yuv420p"))
    assert len(videos) == 1


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


def test_encoding_again_gives_the_same_bytes(clip: Clip, settings_for: Any):
    index = load_index(clip("b_frames.mp4"))
    settings = settings_for(crf=23, preset="medium")
    results = {encoded(index, settings, index.n_frames)[0][2] for _ in range(16)}
    assert len(results) == 1


@pytest.mark.parametrize("preset", ["ultrafast", "medium", "veryslow"])
def test_any_preset_joins(clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any, preset: str):
    index = load_index(clip("variable_rate.mp4"))
    path = tmp_path / "a.mp4"
    join_segments(encoded(index, settings_for(crf=23, preset=preset)), index, path)
    assert ffmpeg.times(path) == ffmpeg.times(clip("variable_rate.mp4"))
    assert ffmpeg.complaints(path) == ""


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


def test_a_failing_draw_names_the_frame(clip: Clip, settings_for: Any):
    with pytest.raises(ModelError, match=r"draw\(\) failed on frame 0.*no brush"):
        encoded(load_index(clip("plain.mp4")), settings_for("Failing"))


def test_progress_counts_every_frame(clip: Clip, settings_for: Any):
    index = load_index(clip("plain.mp4"))
    steps: list[int] = []
    rows = [{"frame": rank} for rank in range(40)]
    Painter(settings_for()).encode(io.BytesIO(), index, 0, 40, rows, steps.append)
    assert sum(steps) == 40


@pytest.fixture
def half_lost(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip whose second half is lost since it was indexed."""
    path = tmp_path / "half.mkv"
    path.write_bytes(clip("matroska.mkv").read_bytes())
    index = load_index(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return index


# What the frame and the word that mark a damaged row leave free.
INSIDE = (slice(32, 58), slice(8, 88))


def test_rows_without_a_picture_repeat_the_last_one(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    join_segments(encoded(half_lost, settings_for(), 1000), half_lost, path)
    found = ffmpeg.luma(path, 64, 96)
    status = [frame.status for frame in open_reader(half_lost).frames(0, 40)]
    first = status.index("missing")
    assert len(found) == 40
    for picture in found[first:]:
        assert np.array_equal(picture[INSIDE], found[first - 1][INSIDE])


def test_rows_without_a_picture_are_marked_in_red(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    join_segments(encoded(half_lost, settings_for(), 1000), half_lost, path)
    red, green, blue = ffmpeg.rgb(path, 64, 96)[-1, 32, 0].astype(int)
    assert red > 200
    assert max(green, blue) < 60


def test_a_segment_without_any_picture_is_black(
    half_lost: FrameIndex, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    path = tmp_path / "out.mp4"
    join_segments(encoded(half_lost, settings_for(), 12), half_lost, path)
    # 16 is black in the limited range, ITU-R BT.601.
    assert (ffmpeg.luma(path, 64, 96)[-1][INSIDE] == 16).all()


@given(st.lists(st.integers(-50, 50), min_size=1).map(sorted))
def test_repeated_times_are_pulled_apart(times: list[int]):
    found = strictly_ascending(np.array(times))
    assert (np.diff(found) > 0).all()
    assert (found >= times).all()
    assert found[0] == times[0]


@given(st.sets(st.integers(-50, 50), min_size=1).map(sorted))
def test_ascending_times_stay(times: list[int]):
    assert strictly_ascending(np.array(times)).tolist() == times


def written(
    pictures: list[np.ndarray | None], index: FrameIndex, settings: Settings, path: Path
) -> Path:
    """A video of the pictures that a model returned, as one segment."""
    file = io.BytesIO()
    with FramesWriter(file, index, 0, settings.output) as writer:
        for rank, picture in enumerate(pictures):
            writer.write(rank, picture)
    join_segments([(0, len(pictures), file.getvalue())], index, path)
    return path


@pytest.mark.parametrize("colour", [(200, 60, 30), (20, 90, 220), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("name", ["b_frames.mp4", "full_range.mp4", "odd_444.mp4", "rgb.mkv"])
def test_returned_pictures_keep_their_colours(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any, name: str, colour: Any
):
    index = load_index(clip(name))
    picture = np.full((index.height, index.width, 3), colour, np.uint8)
    path = written([picture] * 40, index, settings_for(), tmp_path / "a.mp4")
    found = ffmpeg.rgb(path, index.height, index.width).astype(int)
    assert np.abs(found - colour).max() <= 4


def test_returned_gray_pictures_keep_their_grays(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("b_frames.mp4"))
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))[..., None]
    path = written([ramp] * 40, index, settings_for(), tmp_path / "a.mp4")
    assert np.abs(ffmpeg.rgb(path, 64, 96).astype(int) - ramp).max() <= 3


def test_returned_pictures_may_have_another_size(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("variable_rate.mp4"))
    pictures = [np.zeros((33, 51, 3), np.uint8)] * 40
    path = written(pictures, index, settings_for(), tmp_path / "a.mp4")
    assert ", 51x33" in ffmpeg.describe(path)
    assert ffmpeg.times(path) == ffmpeg.times(clip("variable_rate.mp4"))


def test_returned_pictures_that_change_their_size_are_an_error(clip: Clip, settings_for: Any):
    index = load_index(clip("plain.mp4"))
    writer = FramesWriter(io.BytesIO(), index, 0, settings_for().output)
    writer.write(0, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(EncodeError, match="32×48 at frame 1"):
        writer.write(1, np.zeros((32, 48, 3), np.uint8))


def test_absent_pictures_repeat_the_one_before_and_are_black_at_the_start(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("plain.mp4"))
    gray = np.full((64, 96, 3), 120, np.uint8)
    pictures = [None, None, gray, *[None] * 37]
    found = ffmpeg.rgb(written(pictures, index, settings_for(), tmp_path / "a.mp4"), 64, 96)
    assert found[:2].max() <= 2
    assert np.abs(found[2:].astype(int) - 120).max() <= 2


def test_a_segment_without_any_returned_picture_is_black(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("plain.mp4"))
    path = written([None] * 40, index, settings_for(), tmp_path / "a.mp4")
    found = ffmpeg.rgb(path, 64, 96)
    assert len(found) == 40
    assert found.max() <= 2
