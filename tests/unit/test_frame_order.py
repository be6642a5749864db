"""Times of decoding are noticed by the headers of frames, and correct ones are trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import B_FRAMES, H264, HEVC, N_FRAMES, source

from pvio.media.bitstream.bits import Bits, without_escapes
from pvio.media.decode.reader import open_reader
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.media.timing import frame_order as picture_order
from pvio.media.timing.frame_order import decodes_out_of_order, times_contradict

Clip = Callable[[str], Path]
NO_TIME = -(2**63)
# Presentation times in place of which decoding times stand.
OF_DECODING = ["-bsf:v", "setts=ts=N/25/TB"]
X264 = "-x264-params"
DEEP = [*H264, "-bf", "8", X264, "b-adapt=0:b-pyramid=normal:ref=8"]


@pytest.fixture(scope="module")
def without_offsets(ffmpeg: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A clip whose presentation times are its decoding times."""
    folder = tmp_path_factory.mktemp("without_offsets")

    def path_of(name: str, *arguments: str) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg.run("-v", "error", *source(), *arguments, *OF_DECODING, path)
        return path

    return path_of


def rows(index: FrameIndex, start: int, stop: int) -> tuple[list[str], list[float]]:
    """Status and mean of frames."""
    convert = FrameConverter("gray", index.height, index.width, index.orientation)
    reader = open_reader(index)
    frames = list(reader.frames(start, stop))
    reader.close()
    means = [-1.0 if each.pixels is None else float(convert(each.pixels).mean()) for each in frames]
    return [each.status for each in frames], means


ORDINARY = [
    *("plain.mp4", "b_frames.mp4", "open_gop.mkv", "hevc_open_gop.mp4", "variable_rate.mp4"),
    *("audio.mp4", "matroska.mkv", "mpeg4.avi", "h264.avi", "transport.ts", "program.mpg"),
    *("quicktime.mov", "mpeg4_b_frames.mp4", "hevc_main10.mkv", "hevc.ts", "fragmented.mp4"),
    *("intra_refresh.mp4", "open_gop_quiet.mkv", "edit_list.mp4", "edit_list.mov", "uneven.mkv"),
    *("interlaced.mpg", "negative_start.mp4", "h264_intra.mp4", "vp8.webm", "av1.mkv", "wmv2.wmv"),
]


@pytest.mark.parametrize("name", ORDINARY)
def test_right_times_are_believed(clip: Clip, name: str):
    assert load_index(clip(name)).pts_identify_frames


@pytest.mark.parametrize(
    "arguments",
    [
        # It says that it reorders, and does not.
        [*B_FRAMES, "-force_key_frames", "expr:1"],
        [*H264, "-bf", "0", "-bsf:v", "h264_metadata=level=4"],
        # Interlaced, and with many layers of B-frames.
        [*B_FRAMES, "-flags", "+ildct+ilme"],
        DEEP,
        # Counts of 4 bits, which begin anew every few frames.
        [*H264, "-bf", "1", X264, "b-adapt=0:keyint=250"],
        ["-c:v", "libx264", "-tune", "zerolatency", "-pix_fmt", "yuv420p"],
    ],
    ids=["declared", "plain", "interlaced", "deep", "long", "low_delay"],
)
@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_right_times_of_other_orders_are_believed(
    ffmpeg: Any, tmp_path: Path, arguments: list[str], ending: str
):
    path = tmp_path / f"a.{ending}"
    ffmpeg.run("-v", "error", *source(), *arguments, path)
    index = load_index(path)
    assert index.pts_identify_frames
    assert rows(index, 0, N_FRAMES)[0] == ["ok"] * N_FRAMES


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("b.mp4", B_FRAMES),
        ("deep.mkv", DEEP),
        ("open.mp4", [*B_FRAMES, X264, "open-gop=1:scenecut=0"]),
        ("interlaced.ts", [*B_FRAMES, "-flags", "+ildct+ilme"]),
        ("hevc.mp4", HEVC),
        ("mpeg4.mp4", ["-c:v", "mpeg4", "-g", "12", "-bf", "2"]),
        ("mpeg2.mkv", ["-c:v", "mpeg2video", "-g", "12", "-bf", "2"]),
    ],
)
def test_frames_are_counted_wherever_a_segment_starts(
    without_offsets: Any, ffmpeg: Any, name: str, arguments: list[str]
):
    path = without_offsets(name, *arguments)
    index = load_index(path)
    assert not index.pts_identify_frames
    truth = ffmpeg.luma(path, 64, 96).mean((1, 2))
    # The recipe's frames at a steady rate; FFmpeg's command decodes the same in its order.
    assert np.allclose(np.diff(index.times), 1 / 25)
    for start, stop in ((0, N_FRAMES), (1, 9), (17, 18), (30, N_FRAMES)):
        statuses, means = rows(index, start, stop)
        assert statuses == ["ok"] * (stop - start)
        assert means == pytest.approx(truth[start:stop], abs=0.06)


def test_frames_hidden_by_an_edit_list_are_not_counted(ffmpeg: Any, tmp_path: Path):
    raw, path = tmp_path / "a.h264", tmp_path / "a.mp4"
    ffmpeg.run("-v", "error", *source(), *B_FRAMES, raw)
    ffmpeg.run("-v", "error", "-i", raw, "-c", "copy", path)
    index = load_index(path)
    truth = ffmpeg.luma(path, 64, 96).mean((1, 2))
    assert index.n_frames == len(truth) < N_FRAMES
    statuses, means = rows(index, 0, index.n_frames)
    assert statuses == ["ok"] * len(truth)
    assert means == pytest.approx(truth, abs=0.06)


def test_after_a_loss_frame_numbers_are_certain_again_at_the_next_keyframe(
    without_offsets: Any, tmp_path: Path
):
    path = without_offsets("b.mp4", *B_FRAMES)
    whole = rows(load_index(path), 0, N_FRAMES)[1]
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (data.index(b"moov") - start) // 2
    data[middle : middle + 200] = bytes(200)
    broken = tmp_path / "a.mp4"
    broken.write_bytes(data)
    index = load_index(broken)
    assert (index.n_frames, index.pts_identify_frames) == (N_FRAMES, False)
    statuses, means = rows(index, 0, N_FRAMES)
    assert set(statuses) != {"ok"}
    for status, mean, true in zip(statuses, means, whole, strict=True):
        assert status != "ok" or mean == pytest.approx(true, abs=0.06)
    assert statuses[24:] == ["ok"] * (N_FRAMES - 24) or statuses[36:] == ["ok"] * (N_FRAMES - 36)


ORDER = np.array([0, 3, 1, 2])  # I P B B


def contradict(pts: np.ndarray, steps: np.ndarray, reorders: bool) -> bool:
    """`times_contradict` of GOPs of 20 packets."""
    return times_contradict(pts, steps, np.arange(len(pts)) % 20 == 0, NO_TIME, reorders)


def steps_of(order: np.ndarray) -> np.ndarray:
    return np.sign(np.diff(order, prepend=0))


def test_flipped_headers_do_not_make_right_times_wrong():
    pts, steps = np.arange(100), np.ones(100, np.int8)
    steps[[15, 50]] = -1
    assert not contradict(pts, steps, reorders=False)
    order = (ORDER + 4 * np.arange(25)[:, None]).ravel()
    steps = steps_of(order)
    assert not contradict(order, steps, reorders=True)
    steps[[50, 51, 53]] *= -1
    assert not contradict(order, steps, reorders=True)


def test_a_single_b_frame_is_noticed():
    pts, steps = np.arange(100), np.ones(100, np.int8)
    steps[50] = -1
    assert contradict(pts, steps, reorders=True)


@pytest.mark.parametrize("start", [20, 600, 780])
def test_a_part_with_decoding_times_is_noticed(start: int):
    pts = (ORDER + 4 * np.arange(200)[:, None]).ravel()
    steps = steps_of(pts)
    assert not contradict(pts, steps, reorders=True)
    pts[start : start + 20] = np.arange(start, start + 20)
    assert contradict(pts, steps, reorders=True)


def test_a_late_part_with_decoding_times_is_noticed_in_a_file(
    clip: Clip, ffmpeg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(picture_order, "_ALL_READ", 20)
    path = tmp_path / "a.mkv"
    late = "setts=pts='if(gt(N,20),N/25/TB,PTS)':dts='DTS'"
    ffmpeg.run("-v", "error", "-i", clip("b_frames.mp4"), "-c", "copy", "-bsf:v", late, path)
    assert not load_index(path).pts_identify_frames


def test_the_decoder_determines_the_order_of_codecs_whose_headers_are_not_read(
    without_offsets: Any, clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    wrong, right = without_offsets("b.mp4", *B_FRAMES), clip("b_frames.mp4")
    assert decodes_out_of_order(str(wrong), 0)
    assert not decodes_out_of_order(str(right), 0)
    monkeypatch.setattr(picture_order, "_frame_order", lambda _context: None)
    assert not load_index(wrong).pts_identify_frames
    assert load_index(right).pts_identify_frames
    assert load_index(clip("plain.mp4")).pts_identify_frames


def test_codes_of_variable_length_are_read():
    # ITU-T H.264, table 9-2: 1, 010, 011, 00100 are 0 to 3; as signed numbers 0, 1, -1, 2.
    data = int("1010011001001010011001000000", 2).to_bytes(4, "big")
    bits = Bits(data)
    bits.skip(4)
    assert [bits.ue() for _ in range(4)] == [0, 1, 2, 3]
    assert [bits.se() for _ in range(4)] == [0, 1, -1, 2]
    assert bits.read(40) == 0
    assert without_escapes(b"\1\0\0\3\1\0\0\3") == b"\1\0\0\1\0\0"
