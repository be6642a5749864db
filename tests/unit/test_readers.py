"""Reading is exact: every frame number gives FFmpeg's frame, whatever was read before."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
import pytest
from formats import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvio.media.decode.reader import open_reader
from pvio.media.decode.sampling import read_frames_at, sample_frame_numbers, sample_frames
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.decoders.frame import DecodedFrame, FrameReader
from pvio.media.decoders.images import ImageReader
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.media.pixels.orientation import Orientation
from pvio.media.pixels.planes import plane_as_array

Clip = Callable[[str], Path]

# The clips on which seeking is hardest: reordered frames, GOPs that refer to the one before, and
# a container whose index is coarse.
HARD_TO_SEEK = [
    "b_frames.mp4",
    "open_gop.mkv",
    "hevc_open_gop.mp4",
    "transport.ts",
    "late_start.mp4",
]
LUMA_AS_CODED = [
    "plain.mp4", "b_frames.mp4", "open_gop.mkv", "hevc_open_gop.mp4", "variable_rate.mp4",
    "late_start.mkv", "odd_444.mp4", "odd_420.webm", "audio.mp4", "mpeg4.avi", "b_frames.avi",
    "transport.ts", "program.mpg", "raw.h264", "full_range.mp4", "repeated_times.mkv",
]  # fmt: skip


def converter(
    index: FrameIndex, channels: str, size: tuple[int, int] | None = None
) -> FrameConverter:
    return FrameConverter(channels, *(size or (index.height, index.width)), index.orientation)


def pixels_of(frames: Any, convert: FrameConverter) -> np.ndarray:
    """The pixels of decoded frames, N×H×W×C; zeros for unusable frames."""
    result = []
    for decoded in frames:
        result.append(np.zeros(convert.output_shape, np.uint8))
        if decoded.pixels is not None:
            convert.convert_into(decoded.pixels, result[-1])
    return np.array(result)


def decode_all(path: Path, channels: str) -> np.ndarray:
    index = load_index(path)
    return pixels_of(open_reader(index).frames(0, index.n_frames), converter(index, channels))


@functools.cache
def whole(path: Path) -> tuple[FrameIndex, np.ndarray]:
    return load_index(path), decode_all(path, "gray")


@pytest.mark.parametrize("name", LUMA_AS_CODED)
def test_gray_is_the_luma_ffmpeg_decodes(clip: Clip, name: str, ffmpeg: Any):
    height, width = (65, 97) if "odd" in name else (64, 96)
    pix_fmt = {"odd_444.mp4": "yuv444p", "full_range.mp4": "yuvj420p"}.get(name, "yuv420p")
    expected = ffmpeg.luma(clip(name), height, width, pix_fmt)
    assert np.array_equal(decode_all(clip(name), "gray")[..., 0], expected)


def test_gray_of_ten_bits_is_the_high_eight(clip: Clip, ffmpeg: Any):
    expected = ffmpeg.luma(clip("ten_bit.mp4"), 64, 96, "yuv420p10le") >> 2
    assert np.array_equal(decode_all(clip("ten_bit.mp4"), "gray")[..., 0], expected)


def test_gray_of_an_rgb_video_is_near_ffmpegs(clip: Clip, ffmpeg: Any):
    raw = ffmpeg.decode(clip("rgb.mkv"), "gray")
    expected = np.frombuffer(raw, np.uint8).reshape(-1, 64, 96).astype(int)
    assert np.abs(decode_all(clip("rgb.mkv"), "gray")[..., 0] - expected).max() <= 2


@pytest.mark.parametrize(
    "name", [*LUMA_AS_CODED, "rgb.mkv", "ten_bit.mp4", "ten_bit_444.mp4", "h264_422.mp4"]
)
def test_colors_are_those_ffmpeg_converts(clip: Clip, name: str, ffmpeg: Any):
    height, width = (65, 97) if "odd" in name else (64, 96)
    assert np.array_equal(decode_all(clip(name), "rgb"), ffmpeg.rgb(clip(name), height, width))


@pytest.mark.parametrize(
    ("name", "form", "pix_fmt"),
    [
        ("b_frames.mp4", "nv12", "yuv420p"),
        ("odd_420.webm", "nv12", "yuv420p"),
        ("full_range.mp4", "nv12", "yuvj420p"),
        ("limited_709.mp4", "nv12", "yuv420p"),
        ("ten_bit.mp4", "p010le", "yuv420p10le"),
    ],
)
def test_frames_as_gpus_hand_them_over_give_the_same_frames(
    clip: Clip, name: str, form: str, pix_fmt: str, ffmpeg: Any
):
    height, width = (65, 97) if "odd" in name else (64, 96)
    index = load_index(clip(name))
    with av.open(index.path) as container:
        frames = [frame.reformat(format=form) for frame in container.decode(video=0)]
    luma = ffmpeg.luma(clip(name), height, width, pix_fmt) >> (2 if form == "p010le" else 0)
    for channels, expected in (
        ("gray", luma[..., np.newaxis]),
        ("rgb", ffmpeg.rgb(clip(name), height, width)),
    ):
        convert = converter(index, channels)
        assert np.array_equal(np.stack([convert(frame) for frame in frames]), expected)


# Luma weights of red and blue, ITU-R BT.601 and BT.709.
BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)


@pytest.mark.parametrize(
    ("name", "weights", "pix_fmt"),
    [
        ("b_frames.mp4", BT601, "yuv420p"),
        ("limited_709.mp4", BT709, "yuv420p"),
        ("full_range.mp4", BT709, "yuvj420p"),
        ("full_601.mp4", BT601, "yuvj420p"),
        ("odd_444.mp4", BT601, "yuv444p"),
        ("h264_422.mp4", BT601, "yuv422p"),
        ("ten_bit.mp4", BT601, "yuv420p10le"),
        ("ten_bit_444.mp4", BT601, "yuv444p10le"),
    ],
)
def test_colors_follow_the_tagged_matrix_and_range(
    clip: Clip, name: str, weights: tuple[float, float], pix_fmt: str, ffmpeg: Any
):
    height, width = (65, 97) if "odd" in name else (64, 96)
    across, down = (1, 1) if "444" in pix_fmt else (2, 1) if "422" in pix_fmt else (2, 2)
    raw = ffmpeg.decode(clip(name), pix_fmt)
    ten_bit = "10" in pix_fmt
    samples = np.frombuffer(raw, "<u2" if ten_bit else np.uint8).reshape(40, -1).astype(float)
    samples /= 4 if ten_bit else 1
    n, chroma = height * width, (40, height // down, width // across)
    y = samples[:, :n].reshape(40, height, width)
    u, v = (
        c.reshape(chroma).repeat(down, 1).repeat(across, 2) - 128.0
        for c in np.split(samples[:, n:], 2, axis=1)
    )
    if "j" not in pix_fmt:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    red, blue = weights
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    expected = np.clip(np.stack([r, g, b], -1), 0, 255)
    difference = np.abs(decode_all(clip(name), "rgb") - expected)
    assert difference.max() < 4


def test_all_frames_of_an_undamaged_video_are_ok(clip: Clip, any_clip: str, n_frames: int):
    index = load_index(clip(any_clip))
    frames = list(open_reader(index).frames(0, index.n_frames))
    assert [frame.number for frame in frames] == list(range(n_frames))
    assert {frame.status for frame in frames} == {"ok"}


@pytest.mark.parametrize("start", [1, 11, 12, 13, 23, 24, 39])
def test_a_segment_has_the_frames_of_the_whole(clip: Clip, any_clip: str, start: int):
    index, expected = whole(clip(any_clip))
    stop = min(start + 14, index.n_frames)
    frames = list(open_reader(index).frames(start, stop))
    assert {frame.status for frame in frames} == {"ok"}
    found = pixels_of(frames, converter(index, "gray"))
    assert np.array_equal(found, expected[start:stop])


segments = st.tuples(st.integers(0, 39), st.integers(1, 40)).map(
    lambda pair: (pair[0], min(40, pair[0] + pair[1]))
)


@pytest.mark.parametrize("name", HARD_TO_SEEK)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(segments, min_size=1, max_size=3))
def test_one_reader_gives_any_segments_in_any_order(
    clip: Clip, name: str, spans: list[tuple[int, int]]
):
    index, expected = whole(clip(name))
    reader = open_reader(index)
    for start, stop in spans:
        frames = list(reader.frames(start, stop))
        assert [frame.number for frame in frames] == list(range(start, stop))
        assert {frame.status for frame in frames} == {"ok"}
        found = pixels_of(frames, converter(index, "gray"))
        assert np.array_equal(found, expected[start:stop])
    reader.close()


@pytest.mark.parametrize("name", HARD_TO_SEEK)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.integers(0, 39), max_size=6).map(sorted))
def test_scattered_frame_numbers_are_the_frames_of_the_whole(
    clip: Clip, name: str, numbers: list[int]
):
    index, expected = whole(clip(name))
    frames = list(read_frames_at(open_reader(index), numbers))
    assert [frame.number for frame in frames] == numbers
    for frame in frames:
        assert np.array_equal(
            pixels_of([frame], converter(index, "gray"))[0], expected[frame.number]
        )


@pytest.mark.parametrize("n", [1, 3, 10, 40, 100])
def test_a_sample_is_spread_over_the_whole_video(clip: Clip, n: int):
    index = load_index(clip("b_frames.mp4"))
    numbers = sample_frame_numbers(index, n)
    assert len(numbers) <= n
    assert numbers == sorted(set(numbers))
    if n > 1:
        assert numbers[0] < 12
        assert numbers[-1] >= 24


def test_sampled_frames_are_those_of_their_numbers(clip: Clip):
    index, expected = whole(clip("b_frames.mp4"))
    convert = converter(index, "gray")
    found = sample_frames(WatchedReader(index, "pyav", 60, convert), convert, 5)
    assert np.array_equal(found, expected[sample_frame_numbers(index, 5)])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_turned_videos_are_upright_as_ffmpeg_shows_them(
    rotated_clip: Callable[..., Path], degrees: int, mirrored: bool, ffmpeg: Any
):
    path = rotated_clip(degrees, mirrored)
    height, width = (96, 64) if degrees % 180 else (64, 96)
    assert np.array_equal(decode_all(path, "gray")[..., 0], ffmpeg.luma(path, height, width))


def test_turned_videos_are_upright_in_colour(
    rotated_clip: Callable[..., Path], clip: Clip, ffmpeg: Any
):
    # FFmpeg's documentation: -display_rotation turns counterclockwise.
    expected = np.rot90(ffmpeg.rgb(clip("b_frames.mp4"), 64, 96), axes=(1, 2))
    assert np.array_equal(decode_all(rotated_clip(90), "rgb"), expected)


@pytest.mark.parametrize(("size", "kernel"), [((32, 48), "area"), ((128, 192), "bicubic")])
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_resized_frames_are_near_ffmpegs(
    clip: Clip, size: tuple[int, int], kernel: str, channels: str, ffmpeg: Any
):
    index = load_index(clip("b_frames.mp4"))
    scale = f"scale={size[1]}:{size[0]}:flags={kernel}"
    first = "extractplanes=y," if channels == "gray" else ""
    pix_fmt = "gray" if channels == "gray" else "rgb24"
    raw = ffmpeg.decode(clip("b_frames.mp4"), pix_fmt, "-vf", first + scale)
    found = pixels_of(open_reader(index).frames(0, 40), converter(index, channels, size))
    expected = np.frombuffer(raw, np.uint8).reshape(found.shape).astype(int)
    # In color, the chroma planes are enlarged with another kernel, which shows at edges.
    assert np.median(np.abs(found - expected)) <= 2
    assert np.abs(found - expected).mean() < (5 if channels == "rgb" else 1)


def test_a_turned_frame_is_resized_upright(rotated_clip: Callable[..., Path], ffmpeg: Any):
    index = load_index(rotated_clip(90))
    found = pixels_of(open_reader(index).frames(0, 40), converter(index, "gray", (48, 32)))
    options = ("-vf", "extractplanes=y,scale=32:48:flags=area")
    raw = ffmpeg.decode(rotated_clip(90), "gray", *options)
    expected = np.frombuffer(raw, np.uint8).reshape(found.shape).astype(int)
    assert np.abs(found - expected).mean() < 2


def damaged_copy(source: Path, target: Path, damage: Callable[[bytearray, int, int], None]) -> Path:
    """A copy of an MP4 whose samples (the `mdat` box) are damaged; its index stays whole."""
    data = bytearray(source.read_bytes())
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big")
    damage(data, at + 4, at - 4 + size)
    target.write_bytes(data)
    return target


def frames_of(path: Path) -> tuple[FrameIndex, list[DecodedFrame]]:
    index = load_index(path)
    return index, list(open_reader(index).frames(0, index.n_frames))


@pytest.fixture
def half_zero(clip: Clip, tmp_path: Path) -> Path:
    """A clip of 40 frames; the second GOP's samples are overwritten from its second packet on."""

    def erase(data: bytearray, start: int, stop: int) -> None:
        import av

        with av.open(str(clip("plain.mp4"))) as container:
            packets = [p for p in container.demux(video=0) if p.size]
            first, last = packets[13], packets[23]
            data[first.pos + 4 : last.pos + last.size] = bytes(last.pos + last.size - first.pos - 4)

    return damaged_copy(clip("plain.mp4"), tmp_path / "damaged.mp4", erase)


def test_a_damaged_video_keeps_all_rows(half_zero: Path):
    _, frames = frames_of(half_zero)
    assert [frame.number for frame in frames] == list(range(40))


def test_frames_of_a_damaged_gop_are_not_ok(half_zero: Path):
    _, frames = frames_of(half_zero)
    assert "ok" not in {frame.status for frame in frames[14:24]}


def test_gops_around_a_damaged_one_are_ok_and_exact(half_zero: Path, clip: Clip):
    index, frames = frames_of(half_zero)
    _, expected = whole(clip("plain.mp4"))
    for span in (slice(0, 12), slice(24, 40)):
        assert {frame.status for frame in frames[span]} == {"ok"}
        found = pixels_of(frames[span], converter(index, "gray"))
        assert np.array_equal(found, expected[span])


@pytest.mark.parametrize("start", [5, 12, 16, 24])
def test_a_segment_of_a_damaged_video_has_the_status_of_the_whole(half_zero: Path, start: int):
    index, frames = frames_of(half_zero)
    part = list(open_reader(index).frames(start, 40))
    assert [frame.number for frame in part] == list(range(start, 40))
    # A decoder that starts within a GOP has seen the same packets of it.
    assert [frame.status for frame in part] == [frame.status for frame in frames[start:]]


@pytest.mark.parametrize("name", ["b_frames.mp4", "hevc_open_gop.mp4"])
@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_lose_no_row_and_raise_nothing(
    clip: Clip, tmp_path: Path, name: str, seed: int
):
    def flip(data: bytearray, start: int, stop: int) -> None:
        random = np.random.default_rng(seed)
        for position in random.integers(start, stop, 8):
            data[position] ^= 1 << random.integers(8)

    _, frames = frames_of(damaged_copy(clip(name), tmp_path / "flipped.mp4", flip))
    assert [frame.number for frame in frames] == list(range(40))


def truncated_copy(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_frames_that_a_truncated_file_lacks_are_rows_that_are_not_ok(
    clip: Clip, tmp_path: Path, ffmpeg: Any
):
    # An MP4 with its list of frames in front, as cameras and copies that stop halfway leave it.
    ffmpeg.run(
        *("-v", "error", "-i", clip("plain.mp4"), "-c", "copy", "-movflags", "faststart"),
        tmp_path / "fast.mp4",
    )
    _, frames = frames_of(truncated_copy(tmp_path / "fast.mp4", tmp_path / "cut.mp4", 0.7))
    assert [frame.number for frame in frames] == list(range(40))
    assert frames[0].status == "ok"
    assert frames[-1].status == "missing"


@pytest.mark.parametrize("name", ["open_gop.mkv", "transport.ts", "mpeg4.avi", "program.mpg"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_stream_raises_nothing(clip: Clip, tmp_path: Path, name: str, share: float):
    cut = truncated_copy(clip(name), tmp_path / f"cut{Path(name).suffix}", share)
    index, frames = frames_of(cut)
    assert [frame.number for frame in frames] == list(range(index.n_frames))
    assert frames[0].status == "ok"
    assert 5 < sum(frame.status == "ok" for frame in frames) < 40


def test_a_file_that_shrinks_after_indexing_loses_no_row(clip: Clip, tmp_path: Path):
    path = Path(shutil.copy(clip("open_gop.mkv"), tmp_path / "a.mkv"))
    index = load_index(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = list(open_reader(index).frames(0, 40))
    assert [frame.number for frame in frames] == list(range(40))
    assert frames[0].status == "ok"
    assert frames[-1].status == "missing"


@pytest.fixture
def size_change(tmp_path: Path, ffmpeg: Any) -> Path:
    """20 frames of 96×64, then 20 of 64×48."""
    stream = b""
    for size in ("96x64", "64x48"):
        part = tmp_path / f"{size}.mjpeg"
        test_source = f"testsrc2=size={size}:rate=25"
        ffmpeg.run("-v", "error", "-f", "lavfi", "-i", test_source, "-frames:v", 20, part)
        stream += part.read_bytes()
    (tmp_path / "both.mjpeg").write_bytes(stream)
    path = tmp_path / "size_change.mkv"
    ffmpeg.run("-v", "error", "-i", tmp_path / "both.mjpeg", "-c", "copy", path)
    return path


def test_frames_of_another_size_are_scaled(size_change: Path):
    index, frames = frames_of(size_change)
    assert [frame.status for frame in frames] == ["ok"] * 40
    assert (index.height, index.width) == (64, 96)
    assert index.warning == "20 of 40 frames are 64×48 and are scaled to 96×64"


@pytest.mark.parametrize(
    "name", ["fields.ts", "fields.mkv", "field_lost.mp4", "field_lost.ts", "not_coded.mp4"]
)
def test_frames_are_the_same_wherever_reading_starts(name: str, tmp_path: Path, ffmpeg: Any):
    case = next(case for case in rows.CASES if case.name == name)
    case.make(ffmpeg, path := tmp_path / name)
    index, whole = frames_of(path)
    reader = open_reader(index)
    for start in range(index.n_frames):
        for frame, same in zip(reader.frames(start, index.n_frames), whole[start:], strict=True):
            assert (frame.number, frame.status) == (same.number, same.status)
            if same.pixels is not None:
                assert (plane_as_array(frame.pixels, 0) == plane_as_array(same.pixels, 0)).all()
    reader.close()


def test_what_is_not_coded_is_the_frame_before(tmp_path: Path, ffmpeg: Any):
    case = next(case for case in rows.CASES if case.name == "not_coded.mp4")
    case.make(ffmpeg, path := tmp_path / case.name)
    with av.open(str(path)) as container:
        shown = {frame.pts: plane_as_array(frame, 0) for frame in container.decode(video=0)}
    index, frames = frames_of(path)
    assert len(shown) < index.n_frames
    for frame, pts in zip(frames, index.pts.tolist(), strict=True):
        expected = shown[max(each for each in shown if each <= pts)]
        assert (plane_as_array(frame.pixels, 0) == expected).all()


def test_a_single_frame_of_another_size_is_taken_for_damage(size_change: Path):
    data = bytearray(size_change.read_bytes())
    start = data.index(b"\xff\xc0\x00\x11\x08\x00\x40\x00\x60", len(data) // 3)
    data[start + 6] = 0x38  # 56 lines in place of 64
    size_change.write_bytes(data)
    index, frames = frames_of(size_change)
    assert [frame.status for frame in frames].count("corrupt") == 1
    assert index.warning == "19 of 40 frames are 96×64 and are scaled to 64×48"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        iio.imwrite(folder / f"{i}.png", random.integers(0, 256, (20, 30, 3), np.uint8))
    return folder


def test_images_are_read_as_they_are(image_folder: Path):
    expected = np.stack([iio.imread(file) for file in sorted(image_folder.iterdir())])
    assert np.array_equal(decode_all(image_folder, "rgb"), expected)


def test_a_gray_image_is_gray_as_it_is(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    iio.imwrite(tmp_path / "0.png", image)
    assert np.array_equal(decode_all(tmp_path, "gray")[0, :, :, 0], image)


def test_images_of_sixteen_bits_keep_their_high_byte(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    iio.imwrite(tmp_path / "0.png", image)
    assert np.array_equal(decode_all(tmp_path, "gray")[0, :, :, 0], image >> 8)


def test_damaged_absent_and_other_sized_images_are_marked(image_folder: Path):
    index = load_index(image_folder)
    reader = ImageReader(index)
    (image_folder / "1.png").write_bytes(b"no image")
    iio.imwrite(image_folder / "2.png", np.zeros((10, 10, 3), np.uint8))
    (image_folder / "3.png").unlink()
    statuses = [frame.status for frame in reader.frames(0, 4)]
    assert statuses == ["ok", "missing", "corrupt", "missing"]


def test_readers_are_closed_more_than_once(clip: Clip):
    reader: FrameReader = PyAVReader(load_index(clip("plain.mp4")))
    next(iter(reader.frames(3, 5)))
    reader.close()
    reader.close()


TORCHCODEC = """
import sys
import av
import numpy as np
from pvio.media.index.cached import load_index
from pvio.media.pixels.orientation import Orientation
from pvio.media.pixels.convert import FrameConverter
from pvio.media.decode.reader import open_reader
for path in sys.argv[2:]:
    index = load_index(path)
    reader = open_reader(index, "torchcodec")
    assert type(reader).__name__ == "TorchcodecReader", path
    frames = [*reader.frames(0, 40), *reader.frames(17, 23)]
    name = path.rsplit("/", 1)[1]
    convert = FrameConverter("rgb", index.height, index.width, index.orientation)
    np.save(f"{sys.argv[1]}/{name}.npy", np.stack([convert(frame.pixels) for frame in frames]))
    status = ",".join(frame.status for frame in frames)
    print(name, status)
"""


@pytest.fixture(scope="module")
def by_torchcodec(
    clip: Clip, rotated_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Folder of the arrays that torchcodec decodes, and the rows' status as text."""
    folder = tmp_path_factory.mktemp("torchcodec")
    paths = [clip(name) for name in IN_TORCHCODEC[:-1]] + [rotated_clip(90)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        environment = environment_for_torchcodec() or dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", TORCHCODEC, str(folder), *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


DAMAGED_IN_TORCHCODEC = """
import sys
from pvio.media.index.cached import load_index
from pvio.media.decode.reader import open_reader
index = load_index(sys.argv[1])
for decoder in ("pyav", "torchcodec"):
    reader = open_reader(index, decoder)
    for start in (0, 12, 20):
        print(*[frame.status for frame in reader.frames(start, 40)])
"""


@pytest.mark.skipif(
    environment_for_torchcodec() is None,
    reason="torchcodec uses the system's FFmpeg, whose log is not available",
)
def test_torchcodec_reports_damage_as_pyav_does(half_zero: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED_IN_TORCHCODEC, str(half_zero)],
        env={**(environment_for_torchcodec() or {}), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[3:] == lines[:3]
    assert set(lines[0].split()[:12] + lines[0].split()[24:]) == {"ok"}
    assert "ok" not in lines[0].split()[14:24]


IN_TORCHCODEC = [
    "b_frames.mp4", "hevc_open_gop.mp4", "variable_rate.mp4", "late_start.mp4",
    "odd_420.webm", "full_range.mp4", "rotated_90_False.mp4",
]  # fmt: skip


@pytest.mark.xdist_group("torchcodec")
@pytest.mark.parametrize("name", IN_TORCHCODEC)
def test_torchcodec_gives_the_frames_of_pyav(
    by_torchcodec: tuple[Path, str], clip: Clip, name: str
):
    found = np.load(by_torchcodec[0] / f"{name}.npy").astype(int)
    expected = decode_all(clip("plain.mp4").with_name(name), "rgb")
    expected = np.concatenate([expected, expected[17:23]])
    assert found.shape == expected.shape
    # They differ in how they enlarge the chroma planes, which shows at edges.
    difference = np.abs(found - expected)
    assert np.median(difference) <= 2
    assert difference.mean() < 10


@pytest.mark.xdist_group("torchcodec")
@pytest.mark.parametrize("name", IN_TORCHCODEC)
def test_torchcodec_finds_all_frames_ok(by_torchcodec: tuple[Path, str], name: str):
    assert f"{name} " + ",".join(["ok"] * 46) in by_torchcodec[1]


class Unseekable:
    """A container whose own index is of no use."""

    def __init__(self, container: object):
        self._container = container

    def seek(self, *args: object, **options: object) -> None:
        raise av.error.InvalidDataError(1, "no index")

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)


def test_a_container_that_cannot_seek_is_read_from_its_start(clip: Clip):
    index = load_index(clip("b_frames.mp4"))
    reader = PyAVReader(index)
    list(reader.frames(0, 1))
    reader._container = Unseekable(reader._container)
    seen = list(reader.frames(26, 30))
    assert [decoded.number for decoded in seen] == [26, 27, 28, 29]
    assert {decoded.status for decoded in seen} == {"ok"}


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("height", [33, 34])
def test_planar_frames_are_the_same_at_every_size(pix_fmt: str, height: int):
    random = np.random.default_rng(0)
    for width in range(2, 100):
        frame = av.VideoFrame(width, height, pix_fmt)
        for plane in frame.planes:
            samples = np.frombuffer(memoryview(plane), np.uint8)
            samples[:] = random.integers(0, 4 if "10" in pix_fmt else 256, samples.size, np.uint8)
        for turns in (0, 1):
            orientation = Orientation(turns)
            size = orientation.upright_size(height, width)
            pixels = FrameConverter("rgb", *size, orientation)(frame)
            planes = FrameConverter("rgb", *size, orientation, planar=True)(frame)
            assert np.array_equal(planes, pixels.transpose(2, 0, 1)), width
