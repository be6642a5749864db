"""Decoders that hang or crash cost the frames they hang at, and no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import HANGING_DECODER

from pvio.concurrency.child_process import ChildProcess
from pvio.concurrency.prefetch import Prefetcher, StallTimeout
from pvio.config.output import OutputSettings
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.decode.subprocess_reader import SubprocessReader
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.decoders.frame import DecodedFrame
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.encode.format import output_format
from pvio.media.encode.planes import PlanarConverter
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

Clip = Callable[[str], Path]


def test_items_come_in_order_and_errors_too():
    def items() -> Iterator[int]:
        yield from range(10)
        raise ValueError("the end")

    stream = iter(Prefetcher(items(), 3, 10))
    assert [next(stream) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="the end"):
        next(stream)


def test_no_more_is_made_ahead_than_allowed():
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    stream = iter(Prefetcher(items(), 3, 10))
    next(stream)
    time.sleep(0.2)
    assert len(made) <= 5  # one taken, three waiting, one in the making
    stream.close()


def test_a_consumer_that_stops_early_closes_the_source():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = iter(Prefetcher(items(), 3, 10))
    next(stream)
    stream.close()
    assert closed.is_set()


def test_a_wait_that_is_too_long_is_reported_at_once():
    wake = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        wake.wait(60)

    stream = iter(Prefetcher(items(), 3, 0.2))
    assert next(stream) == 0
    began = time.monotonic()
    with pytest.raises(StallTimeout):
        next(stream)
    assert time.monotonic() - began < 5
    wake.set()


def test_the_limit_is_one_of_frames_and_not_of_what_is_made_of_them(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    index = load_index(clip("b_frames.mp4"))
    whole = PyAVReader.frames

    def slow(self: Any, start: int, stop: int) -> Iterator[DecodedFrame]:
        for decoded in whole(self, start, stop):
            time.sleep(0.2)
            yield decoded

    class Numbers(list[int]):
        stop = 40

    def numbers() -> Iterator[Numbers]:
        yield Numbers(frame.number for frame in reader.read_frames(0, 40))

    monkeypatch.setattr(PyAVReader, "frames", slow)
    reader = WatchedReader(index, "pyav", 3, converter(index))
    assert list(reader.prefetched(numbers(), 1)) == [list(range(40))]  # in 8 seconds
    assert not reader.isolated


def test_a_wait_that_is_no_longer_wanted_ends(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    reader = WatchedReader(load_index(path), "pyav", 20, converter(load_index(path)))
    began = time.monotonic()
    threading.Timer(1, reader.cancel).start()
    assert len(list(reader.frames(5, 40))) < 35
    reader.close()
    assert time.monotonic() - began < 6


def converter(index: FrameIndex, channels: str = "gray") -> FrameConverter:
    return FrameConverter(channels, index.height, index.width, index.orientation)


@pytest.mark.parametrize("name", ["b_frames.mp4", "odd_444.mp4", "ten_bit.mp4", "rgb.mkv"])
def test_a_child_process_reads_the_same_planes(clip: Clip, name: str):
    index = load_index(clip(name))
    convert = PlanarConverter(output_format(index, OutputSettings()), index.orientation)
    reader = SubprocessReader(index, "pyav", convert, 60)
    frames = zip(reader.frames(5, 9), open_reader(index).frames(5, 9), strict=True)
    for decoded, expected in frames:
        for found, wanted in zip(decoded.pixels, convert(expected.pixels), strict=True):
            assert np.array_equal(found, wanted)
    reader.close()


@pytest.mark.parametrize(
    "name",
    ["b_frames.mp4", "odd_444.mp4", "odd_420.webm", "ten_bit.mp4", "rgb.mkv", "full_range.mp4"],
)
@pytest.mark.parametrize("channels", ["gray", "rgb"])
def test_a_child_process_reads_the_same_frames(clip: Clip, name: str, channels: str):
    index = load_index(clip(name))
    convert = converter(index, channels)
    reader = SubprocessReader(index, "pyav", convert, 60)
    for start, stop in ((5, 20), (30, 34), (0, 3)):
        frames = zip(
            reader.frames(start, stop), open_reader(index).frames(start, stop), strict=True
        )
        for decoded, expected in frames:
            assert decoded[:2] == expected[:2]
            assert np.array_equal(decoded.pixels, convert(expected.pixels))
    reader.close()


def test_a_child_process_reports_a_removed_file(clip: Clip, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("b_frames.mp4").read_bytes())
    index = load_index(path)
    path.unlink()
    reader = SubprocessReader(index, "pyav", converter(index), 60)
    with pytest.raises(UnreadableVideo):
        list(reader.frames(0, 5))
    reader.close()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path, int, bool], None]:
    """Let PyAV's decoder hang at a frame of a clip, here and, if asked for, in child processes."""

    def make(path: Path, frame_number: int, everywhere: bool) -> None:
        whole = PyAVReader.frames

        def frames(self: Any, start: int, stop: int) -> Any:
            for decoded in whole(self, start, stop):
                if decoded.number == frame_number and self.index.path == str(path):
                    time.sleep(30)
                yield decoded

        monkeypatch.setattr(PyAVReader, "frames", frames)
        if everywhere:
            (tmp_path / "sitecustomize.py").write_text(
                HANGING_DECODER.format(number=frame_number, name=path.name)
            )
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def guarded(path: Path) -> WatchedReader:
    index = load_index(path)
    return WatchedReader(index, "pyav", 3, converter(index))


def statuses(reader: WatchedReader, start: int, stop: int) -> str:
    """First letters of the statuses, the frame numbers being checked."""
    frames = list(reader.frames(start, stop))
    assert [frame.number for frame in frames] == list(range(start, stop))
    return "".join(frame.status[0] for frame in frames)


def test_a_decoder_that_hangs_once_costs_nothing(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    reader = guarded(path)
    assert statuses(reader, 5, 40) == "o" * 35
    assert reader.skipped_reason == ""
    reader.close()


def test_a_reader_that_is_left_early_continues_without_a_child_process(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pvio.media.decode.watchdog.SubprocessReader", None)
    reader = guarded(clip("b_frames.mp4"))
    for start in (0, 12, 5):
        frames = iter(reader.frames(start, 40))
        assert next(frames).number == start
        del frames
    assert statuses(reader, 5, 40) == "o" * 35
    reader.close()


def test_a_decoder_that_always_hangs_costs_the_rest_of_the_gop(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")  # keyframes: 0, 12, 24, 36
    hang(path, 17, True)
    reader = guarded(path)
    assert statuses(reader, 5, 40) == "o" * 12 + "m" * 7 + "o" * 16
    assert reader.skipped_reason == "the decoder hung at frame 17"
    reader.close()


def test_a_child_process_that_crashes_costs_the_rest_of_the_gop(
    clip: Clip, hang: Any, monkeypatch: pytest.MonkeyPatch
):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    children: list[ChildProcess] = []

    class Dying(ChildProcess):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **options)
            children.append(self)
            if len(children) == 1:
                os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr("pvio.media.decode.subprocess_reader.ChildProcess", Dying)
    reader = guarded(path)
    assert statuses(reader, 0, 40) == "o" * 17 + "m" * 7 + "o" * 16
    assert reader.skipped_reason == "the decoder crashed at frame 17"


def test_the_child_process_ends_with_its_parent(clip: Clip, tmp_path: Path, hang: Any):
    import subprocess

    path = clip("b_frames.mp4")
    hang(path, 3, True)
    script = (
        "import sys; from pvio.media.index.cached import load_index;"
        "from pvio.media.decode.subprocess_reader import SubprocessReader;"
        f"p = SubprocessReader(load_index({str(path)!r}), 'pyav', bool, 60);"
        "frames = p.frames(0, 40);"
        "next(frames); print(p._child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)  # it lives, and hangs
        parent.kill()
    for _ in range(50):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the sub-process is still there")
