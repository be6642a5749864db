"""`decoder: cuda`: the frames and rows of PyAV, with a device or without one.

No device is needed here. The fixture `device` replaces one: FFmpeg decodes in software, and
its frames are handed over in the formats in which those of a device come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter

from pvio.cli.doctor import diagnose
from pvio.config.settings import parse_settings
from pvio.inference.engine import Engine, decoder_for
from pvio.media.decode.reader import open_reader
from pvio.media.decode.subprocess_reader import SubprocessReader
from pvio.media.decode.watchdog import WatchedFrame, WatchedReader
from pvio.media.decoders import nvdec as cuda_reader
from pvio.media.decoders.nvdec import NvdecReader, device_error
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

Clip = Callable[[str], Path]
ON_DEVICES = [
    "b_frames.mp4", "open_gop.mkv", "hevc_open_gop.mp4", "odd_420.webm", "transport.ts",
    "full_range.mp4", "hevc_main10.mkv", "b_frames.avi", "late_start.mp4",
]  # fmt: skip
needs_no_device = pytest.mark.skipif(device_error(0) == "", reason="there is a CUDA device")
needs_device = pytest.mark.skipif(device_error(0) != "", reason="there is no CUDA device")
# Devices refuse HEVC and VP9 of the size of the other clips. By name: FFmpeg's arguments, and why a
# device does not decode it; "" where it does.
LARGE = {
    "h264.mp4": (["-c:v", "libx264", "-g", "12", "-bf", "3", "-pix_fmt", "yuv420p"], ""),
    "hevc.mp4": (["-c:v", "libx265", "-x265-params", "keyint=12:log-level=error"], ""),
    "hevc_10.mkv": (
        ["-c:v", "libx265", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p10le"],
        "",
    ),
    "vp9.webm": (["-c:v", "libvpx-vp9", "-g", "12", "-deadline", "realtime"], ""),
    "h264_gray.mp4": (["-c:v", "libx264", "-g", "12", "-pix_fmt", "gray"], "differently"),
    "h264_10.mp4": (["-c:v", "libx264", "-pix_fmt", "yuv420p10le"], "is not decoded by the CUDA"),
    "odd.webm": (["-vf", "scale=321:241", "-c:v", "libvpx-vp9"], "differently"),
}


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Warnings that a process logs once are logged again in the next test."""
    yield
    cuda_reader._warn.cache_clear()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a device; of what it decodes, FFmpeg makes the frames in software."""
    monkeypatch.setattr(cuda_reader, "device_error", lambda number: "")
    monkeypatch.setattr(cuda_reader, "_on_device", lambda number: None)


@pytest.fixture
def device(opened: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device that decodes, and the formats of what it handed over."""
    formats: list[str] = []
    decode = PyAVReader._decode
    to_format = VideoReformatter()

    def on_device(self: PyAVReader, packet: Any) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        if not isinstance(self, cuda_reader._DeviceReader):
            return frames
        form = "p010le" if "10" in self.index.pix_fmt else "nv12"
        formats.extend([form] * len(frames))
        return [to_format.reformat(frame, format=form) for frame in frames]

    # Below the check of what the device hands over.
    monkeypatch.setattr(PyAVReader, "_decode", on_device)
    return formats


def rows(reader: Any, channels: str, start: int = 0, stop: int = 40) -> tuple[str, np.ndarray]:
    """First letters of the statuses, and the pixels, zeros for unusable frames."""
    index = reader.index
    convert = FrameConverter(channels, index.height, index.width, index.orientation)
    letters, frames_of = "", []
    for decoded in reader.frames(start, stop):
        letters += decoded.status[0]
        frames_of.append(np.zeros(convert.output_shape, np.uint8))
        if isinstance(decoded, WatchedFrame):
            decoded.write_to(frames_of[-1])
        elif decoded.pixels is not None:
            convert.convert_into(decoded.pixels, frames_of[-1])
    reader.close()
    return letters, np.stack(frames_of)


def assert_same_rows(index: FrameIndex, channels: str = "gray", start: int = 0) -> None:
    letters, frames_of = rows(open_reader(index, "cuda:0"), channels, start)
    expected_letters, expected = rows(PyAVReader(index), channels, start)
    assert letters == expected_letters
    assert np.array_equal(frames_of, expected)


@pytest.mark.parametrize("channels", ["gray", "rgb"])
@pytest.mark.parametrize("name", ON_DEVICES)
def test_frames_of_a_device_are_those_of_pyav(
    clip: Clip, device: list[str], name: str, channels: str, caplog: pytest.LogCaptureFixture
):
    assert_same_rows(load_index(clip(name)), channels)
    assert len(device) >= 40
    assert caplog.text == ""


@pytest.mark.parametrize("start", [5, 12, 30])
def test_a_device_decodes_from_any_frame_on(clip: Clip, device: list[str], start: int):
    assert_same_rows(load_index(clip("b_frames.mp4")), start=start)
    assert device


@pytest.fixture
def damaged(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip whose second GOP has zeros in place of most of its bytes."""
    path = tmp_path / "damaged.mp4"
    data = bytearray(clip("plain.mp4").read_bytes())
    with av.open(str(clip("plain.mp4"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        for packet in packets[13:24]:
            data[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    path.write_bytes(data)
    return load_index(path)


@pytest.mark.parametrize("start", [0, 16])
def test_damage_has_the_status_that_pyav_finds(
    damaged: FrameIndex, device: list[str], start: int, caplog: pytest.LogCaptureFixture
):
    assert_same_rows(damaged, start=start)
    assert 0 < len(device) < 40
    assert caplog.text.count("PyAV decodes") == 1


def test_a_frame_that_the_device_does_not_deliver_is_decoded_by_pyav(
    clip: Clip, device: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    index = load_index(clip("b_frames.mp4"))
    decode = PyAVReader._decode

    def losing(self: PyAVReader, packet: Any) -> list[av.VideoFrame]:
        lost = index.pts[17] if isinstance(self, cuda_reader._DeviceReader) else None
        return [frame for frame in decode(self, packet) if frame.pts != lost]

    monkeypatch.setattr(PyAVReader, "_decode", losing)
    assert_same_rows(index)
    assert f"{index.path}: some frames are damaged" in caplog.text


@pytest.mark.parametrize(
    "name", ["odd_444.mp4", "mpeg4.avi", "ten_bit_444.mp4", "rgb.mkv", "av1.mkv"]
)
def test_what_no_device_decodes_as_the_standard_says_is_left_to_pyav(
    clip: Clip, device: list[str], name: str, caplog: pytest.LogCaptureFixture
):
    index = load_index(clip(name))
    for start in (0, 12):
        assert_same_rows(index, start=start)
    assert device == []
    (record,) = caplog.records
    assert f"{index.path}: {index.codec} in {index.pix_fmt} is not" in record.getMessage()


@pytest.mark.parametrize("name", ["ten_bit.mp4", "b_frames.mp4"])
def test_a_stream_that_the_device_refuses_is_left_to_pyav(
    clip: Clip, opened: None, name: str, caplog: pytest.LogCaptureFixture
):
    index = load_index(clip(name))
    for start in (0, 12):
        assert_same_rows(index, start=start)
    (record,) = caplog.records
    assert f"{index.path}: this h264 stream is not decoded" in record.getMessage()


@pytest.mark.parametrize("what", ["luma", "chroma", "size"])
@pytest.mark.parametrize("start", [0, 12])
def test_a_stream_that_the_device_decodes_differently_is_left_to_pyav(
    clip: Clip,
    device: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    start: int,
):
    decode = PyAVReader._decode
    larger = VideoReformatter()

    def differing(self: PyAVReader, packet: Any) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        if not isinstance(self, cuda_reader._DeviceReader):
            return frames
        if what == "size":  # as of frames that are cropped on the left
            return [larger.reformat(frame, width=frame.width + 2) for frame in frames]
        for frame in frames:
            plane = frame.planes[what == "chroma"]
            samples = np.frombuffer(memoryview(plane), np.uint8).copy()
            samples[3] ^= 1
            plane.update(samples)
        return frames

    monkeypatch.setattr(PyAVReader, "_decode", differing)
    index = load_index(clip("b_frames.mp4"))
    for channels in ("gray", "rgb"):
        assert_same_rows(index, channels, start)
    assert device
    (record,) = caplog.records
    assert f"{index.path}: the CUDA device decodes this stream differently" in record.getMessage()


def test_a_device_that_is_lost_costs_nothing(
    clip: Clip, device: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    decode = PyAVReader._decode

    def failing(self: PyAVReader, packet: Any) -> list[av.VideoFrame]:
        if len(device) > 20 and isinstance(self, cuda_reader._DeviceReader):
            raise av.error.ExternalError(-542398533, "CUDA_ERROR_UNKNOWN")
        return decode(self, packet)

    monkeypatch.setattr(PyAVReader, "_decode", failing)
    assert_same_rows(load_index(clip("b_frames.mp4")))
    assert len(device) > 20
    assert "CUDA_ERROR_UNKNOWN" in caplog.text


@needs_no_device
def test_a_device_that_cannot_be_opened_again_costs_nothing(
    clip: Clip, caplog: pytest.LogCaptureFixture
):
    index = load_index(clip("b_frames.mp4"))
    letters, frames_of = rows(NvdecReader(index, 0), "gray")
    assert letters == "o" * 40
    assert np.array_equal(frames_of, rows(PyAVReader(index), "gray")[1])
    assert f"{index.path}: decoding on the CUDA device failed" in caplog.text


@needs_no_device
def test_without_a_device_pyav_decodes_and_one_warning_says_why(
    clip: Clip, caplog: pytest.LogCaptureFixture
):
    for name in ("b_frames.mp4", "plain.mp4", "b_frames.mp4"):
        assert_same_rows(load_index(clip(name)))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert device_error(0) in record.getMessage()
    assert "PyAV decodes instead" in record.getMessage()


@needs_no_device
def test_predictions_without_a_device_are_those_of_pyav(
    clip: Clip, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "mean_model.py").write_text("def mean(frames):\n    return frames.mean((1, 2, 3))")
    index = load_index(clip("b_frames.mp4"))
    tables = {}
    for decoder in ("pyav", "cuda"):
        model = {"entry": f"{tmp_path}/mean_model.py:mean", "device": "cpu"}
        engine = Engine(parse_settings({"decoder": decoder, "model": model}))
        tables[decoder] = [
            engine.run_segment(index, *span).table.table() for span in ((0, 12), (12, 40))
        ]
    assert all(a.equals(b) for a, b in zip(tables["pyav"], tables["cuda"], strict=True))
    assert len(caplog.records) == 1


@needs_no_device
def test_a_child_process_decodes_without_a_device_too(
    clip: Clip, capfd: pytest.CaptureFixture[str]
):
    index = load_index(clip("b_frames.mp4"))
    convert = FrameConverter("gray", index.height, index.width, index.orientation)
    process = SubprocessReader(index, "cuda:0", convert, 60)
    found = [decoded.pixels for decoded in process.frames(5, 20)]
    process.close()
    assert np.array_equal(np.stack(found), rows(PyAVReader(index), "gray", 5, 20)[1])
    assert "cannot be opened" in capfd.readouterr().err


def test_a_device_that_hangs_is_left_to_a_child_process(
    clip: Clip, device: list[str], monkeypatch: pytest.MonkeyPatch
):
    hanging = cuda_reader._DeviceReader.frames

    def frames(self: Any, start: int, stop: int) -> Any:
        for decoded in hanging(self, start, stop):
            if decoded.number == 17:
                time.sleep(30)
            yield decoded

    monkeypatch.setattr(cuda_reader._DeviceReader, "frames", frames)
    index = load_index(clip("b_frames.mp4"))
    convert = FrameConverter("gray", index.height, index.width, index.orientation)
    reader = WatchedReader(index, "cuda:0", 3, convert)
    assert rows(reader, "gray")[0] == "o" * 40
    assert reader.skipped_reason == ""


@pytest.mark.parametrize(("name", "number"), [("cuda:1", 1), ("cuda", 0), ("cpu", 0)])
def test_decoding_is_on_the_device_of_the_model(name: str, number: int):
    settings = parse_settings({"decoder": "cuda"})
    assert decoder_for(torch.device(name), settings) == f"cuda:{number}"


def test_the_device_is_the_one_that_is_asked_for(
    clip: Clip, opened: None, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []
    monkeypatch.setattr(cuda_reader, "_on_device", asked.append)
    rows(open_reader(load_index(clip("b_frames.mp4")), "cuda:3"), "gray")
    assert set(asked) == {3}


def test_an_image_folder_needs_no_device(clip: Clip, ffmpeg: Any, tmp_path: Path):
    ffmpeg.run("-v", "error", "-i", clip("plain.mp4"), tmp_path / "%03d.png")
    assert rows(open_reader(load_index(tmp_path), "cuda:0"), "gray")[0] == "o" * 40


@needs_no_device
def test_the_doctor_says_why_no_device_decodes():
    lines: list[str] = []
    diagnose(lines.append)
    assert f"decoder: cuda cannot open a device ({device_error(0)})" in "\n".join(lines)


@needs_device
@pytest.mark.parametrize("name", LARGE)
def test_frames_of_a_real_device_are_those_of_pyav(
    tmp_path: Path, ffmpeg: Any, name: str, caplog: pytest.LogCaptureFixture
):
    arguments, reason = LARGE[name]
    source = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-frames:v", "40"]
    if "-pix_fmt" not in arguments:
        arguments = [*arguments, "-pix_fmt", "yuv420p"]
    ffmpeg.run("-v", "error", *source, *arguments, tmp_path / name)
    index = load_index(tmp_path / name)
    for channels, start in (("gray", 0), ("rgb", 0), ("rgb", 17)):
        assert_same_rows(index, channels, start)
    assert reason in caplog.text
    assert bool(caplog.text) == bool(reason)


def test_an_ffmpeg_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda_reader, "_on_device", lambda number: None)
    assert "without CUDA" in device_error.__wrapped__(0)


@needs_no_device
def test_the_error_of_a_device_names_ffmpegs_reason():
    assert "cuda" in device_error(0).lower()
