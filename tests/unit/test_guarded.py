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

from pvio.concurrency.prefetch import Ahead, Stalled
from pvio.config.settings import OutputSettings
from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.decode.subprocess_reader import IsolatedFrames
from pvio.media.decode.watchdog import GuardedReader
from pvio.media.decoders.frame import Decoded
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

    stream = iter(Ahead(items(), 3, 10, threading.Event()))
    assert [next(stream) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="the end"):
        next(stream)


def test_no_more_is_made_ahead_than_allowed():
    made = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    stream = iter(Ahead(items(), 3, 10, threading.Event()))
    next(stream)
    time.sleep(0.2)
    assert len(made) <= 5  # one taken, three waiting, one in the making
    stream.close()


def test_whoever_leaves_early_closes_the_source():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = iter(Ahead(items(), 3, 10, threading.Event()))
    next(stream)
    stream.close()
    assert closed.is_set()


def test_a_wait_that_is_too_long_is_told_at_once():
    wake = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        wake.wait(60)

    stream = iter(Ahead(items(), 3, 0.2, threading.Event()))
    assert next(stream) == 0
    began = time.monotonic()
    with pytest.raises(Stalled):
        next(stream)
    assert time.monotonic() - began < 5
    wake.set()


def test_the_limit_is_one_of_frames_and_not_of_what_is_made_of_them(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    index = load_index(clip("b_frames.mp4"))
    whole = PyAVReader.frames

    def slow(self: Any, start: int, stop: int) -> Iterator[Decoded]:
        for decoded in whole(self, start, stop):
            time.sleep(0.2)
            yield decoded

    def ranks(start: int, frames: Iterator[Decoded]) -> Iterator[tuple[list[int], int]]:
        yield [decoded.rank for decoded in frames], 40

    monkeypatch.setattr(PyAVReader, "frames", slow)
    reader = GuardedReader(index, "pyav", 3, converter(index))
    assert list(reader.made_of(0, 40, ranks, depth=1)) == [list(range(40))]  # in 8 seconds
    assert not reader.left_behind


def test_a_wait_that_is_no_longer_wanted_ends(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    reader = GuardedReader(load_index(path), "pyav", 20, converter(load_index(path)))
    began = time.monotonic()
    threading.Timer(1, reader.cancel).start()
    assert len(list(reader.frames(5, 40))) < 35
    reader.close()
    assert time.monotonic() - began < 6


def converter(index: FrameIndex, channels: str = "gray") -> FrameConverter:
    return FrameConverter(channels, index.height, index.width, index.orientation)


@pytest.mark.parametrize("name", ["b_frames.mp4", "odd_444.mp4", "ten_bit.mp4", "rgb.mkv"])
def test_a_sub_process_reads_the_same_planes(clip: Clip, name: str):
    index = load_index(clip(name))
    convert = PlanarConverter(output_format(index, OutputSettings()), index.orientation)
    process = IsolatedFrames(index, "pyav", 5, 9, convert)
    for decoded, expected in zip(process.frames(), open_reader(index).frames(5, 9), strict=True):
        for found, wanted in zip(convert(decoded.picture), convert(expected.picture), strict=True):
            assert np.array_equal(found, wanted)
    process.kill()


@pytest.mark.parametrize(
    "name",
    ["b_frames.mp4", "odd_444.mp4", "odd_420.webm", "ten_bit.mp4", "rgb.mkv", "full_range.mp4"],
)
@pytest.mark.parametrize("channels", ["gray", "rgb"])
def test_a_sub_process_reads_the_same_pictures(clip: Clip, name: str, channels: str):
    index = load_index(clip(name))
    convert = converter(index, channels)
    process = IsolatedFrames(index, "pyav", 5, 20, convert)
    for decoded, expected in zip(process.frames(), open_reader(index).frames(5, 20), strict=True):
        assert decoded[:2] == expected[:2]
        assert np.array_equal(convert(decoded.picture), convert(expected.picture))
    process.kill()


def test_a_sub_process_tells_of_a_file_that_vanished(clip: Clip, tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip("b_frames.mp4").read_bytes())
    index = load_index(path)
    path.unlink()
    process = IsolatedFrames(index, "pyav", 0, 5, converter(index))
    with pytest.raises(UnreadableVideo):
        list(process.frames())
    process.kill()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path, int, bool], None]:
    """Let PyAV's decoder hang at a frame of a clip, here and, if asked for, in sub-processes."""

    def make(path: Path, rank: int, everywhere: bool) -> None:
        whole = PyAVReader.frames

        def frames(self: Any, start: int, stop: int) -> Any:
            for decoded in whole(self, start, stop):
                if decoded.rank == rank and self.index.path == str(path):
                    time.sleep(30)
                yield decoded

        monkeypatch.setattr(PyAVReader, "frames", frames)
        if everywhere:
            (tmp_path / "sitecustomize.py").write_text(
                HANGING_DECODER.format(rank=rank, name=path.name)
            )
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def guarded(path: Path) -> GuardedReader:
    index = load_index(path)
    return GuardedReader(index, "pyav", 3, converter(index))


def statuses(reader: GuardedReader, start: int, stop: int) -> str:
    """First letters of the statuses, the ranks being checked."""
    frames = list(reader.frames(start, stop))
    assert [frame.rank for frame in frames] == list(range(start, stop))
    return "".join(frame.status[0] for frame in frames)


def test_a_decoder_that_hangs_once_costs_nothing(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    reader = guarded(path)
    assert statuses(reader, 5, 40) == "o" * 35
    assert reader.given_up == ""
    reader.close()


def test_a_reader_that_is_left_early_goes_on_without_a_sub_process(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pvio.media.decode.watchdog.IsolatedFrames", None)
    reader = guarded(clip("b_frames.mp4"))
    for start in (0, 12, 5):
        frames = iter(reader.frames(start, 40))
        assert next(frames).rank == start
        del frames
    assert statuses(reader, 5, 40) == "o" * 35
    reader.close()


def test_a_decoder_that_always_hangs_costs_the_rest_of_the_gop(clip: Clip, hang: Any):
    path = clip("b_frames.mp4")  # keyframes: 0, 12, 24, 36
    hang(path, 17, True)
    reader = guarded(path)
    assert statuses(reader, 5, 40) == "o" * 12 + "m" * 7 + "o" * 16
    assert reader.given_up == "the decoder hung at frame 17"
    reader.close()


def test_a_sub_process_that_dies_costs_the_rest_of_the_gop(
    clip: Clip, hang: Any, monkeypatch: pytest.MonkeyPatch
):
    path = clip("b_frames.mp4")
    hang(path, 17, False)
    processes: list[IsolatedFrames] = []

    class Dying(IsolatedFrames):
        def __init__(self, *args: Any):
            super().__init__(*args)
            processes.append(self)
            if len(processes) == 1:
                os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr("pvio.media.decode.watchdog.IsolatedFrames", Dying)
    reader = guarded(path)
    assert statuses(reader, 0, 40) == "o" * 17 + "m" * 7 + "o" * 16
    assert reader.given_up == "the decoder crashed at frame 17"


def test_the_sub_process_ends_with_its_parent(clip: Clip, tmp_path: Path, hang: Any):
    import subprocess

    path = clip("b_frames.mp4")
    hang(path, 3, True)
    script = (
        "import sys; from pvio.media.index.cached import load_index;"
        "from pvio.media.decode.subprocess_reader import IsolatedFrames;"
        f"p = IsolatedFrames(load_index({str(path)!r}), 'pyav', 0, 40, bool);"
        "next(p.frames()); print(p._process.pid, flush=True); sys.stdin.read()"
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
