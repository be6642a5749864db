"""A decoder that aborts, hangs or takes all memory costs itself, wherever a file is read.

Probing has the same tests in test_guard.py.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from pvio.cache.entries import Cache
from pvio.collection.sources import Source
from pvio.concurrency.child_process import WorkerPool
from pvio.concurrency.prefetch import Prefetcher
from pvio.config.settings import Settings, parse_settings
from pvio.errors import UnreadableVideo
from pvio.inference.engine import Engine
from pvio.inference.overlay import OverlayRenderer
from pvio.inference.prepare import prepare_model
from pvio.media.decode.sampling import first_usable_frame_from, last_usable_frame_before
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.decoders.frame import DecodedFrame
from pvio.media.decoders.pyav import PyAVReader
from pvio.media.encode.concat import concat_in_child
from pvio.media.index.cached import load_index, rebuild_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.pipeline.jobs.supervisor import Outcome, run_supervised
from pvio.pipeline.planning.probed_video import index_of, probed_row

# Its keyframes are 0, 12, 24 and 36; it has 40 frames.
CLIP = "b_frames.mp4"

# What a process does with the file, by how it fails.
ACTIONS = {
    "abort": "import os; os.abort()",
    "hang": "import time; time.sleep(1000)",
    "memory": "taken = []\n    while True: taken.append(bytearray(1 << 25))",
}
REASONS = {"abort": "crashed", "hang": "hung", "memory": "ran out of memory"}

FAILING_DECODER = """
from pvio.media.decoders.pyav import PyAVReader

frames = PyAVReader.frames

def fail():
    {action}

def failing(self, start, stop):
    for frame in frames(self, start, stop):
        if frame.number in {numbers}:
            fail()
        if frame.number in {lost}:
            frame = frame._replace(status="missing", pixels=None)
        yield frame

PyAVReader.frames = failing
"""

FAILING_AUDIO = """
from pvio.media.encode import audio_metadata, concat

def fail(*_):
    {action}

class Failing(audio_metadata.AudioCopier):
    __init__ = fail

concat.AudioCopier = Failing
"""

FAILING_INDEX = """
from pvio.media.index import build

def build_index(source):
    {action}

build.build_index = build_index
"""

MODEL = """
class Bright:
    def prepare(self, video):
        self.sample = video.sample(4)
    def __call__(self, frames):
        return {"mean": frames.float().mean((1, 2, 3)), "frames": frames}
"""


@pytest.fixture(params=list(ACTIONS))
def failure(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, Callable[..., None]]:
    """How children fail, and a function that lets them do so at frames of any video."""

    def prepare(template: str, **fields: Any) -> None:
        fields = {"lost": [], **fields}
        text = template.format(action=ACTIONS[request.param], **fields)
        (tmp_path / "sitecustomize.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr("pvio.concurrency.child_process.free_memory", lambda: 300 << 20)

    return request.param, prepare


@pytest.fixture
def hang_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[int], None]]:
    """Lets the decoder hang at a frame in this process, and not in children."""
    whole, end = PyAVReader.frames, threading.Event()

    def quick(items: Any, depth: int, _: float, *others: Any) -> Prefetcher[Any]:
        """With a shorter timeout than that of children, which take longer to start."""
        return Prefetcher(items, depth, 0.5, *others)

    def prepare(number: int) -> None:
        def hanging(self: PyAVReader, start: int, stop: int) -> Iterator[DecodedFrame]:
            for frame in whole(self, start, stop):
                if frame.number == number:
                    end.wait(60)
                yield frame

        monkeypatch.setattr(PyAVReader, "frames", hanging)
        monkeypatch.setattr("pvio.media.decode.watchdog.Prefetcher", quick)

    yield prepare
    end.set()
    said = [record.getMessage() for record in caplog.get_records("call")]
    assert sum("a child process tries again" in text for text in said) == 1


@pytest.fixture
def index(clip: Callable[[str], Path]) -> FrameIndex:
    return load_index(clip(CLIP))


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    path = sys.path.copy()
    (tmp_path / "failing_model.py").write_text(MODEL)
    yield parse_settings(
        {
            "model": {
                "entry": f"{tmp_path}/failing_model.py:Bright",
                "device": "cpu",
                "channels": "rgb",
            },
            "output": {"crf": 0, "preset": "ultrafast"},
            # Longer than a child takes to start on a busy machine.
            "decoder_timeout": 8,
        }
    )
    sys.path[:] = path


def converter_of(index: FrameIndex) -> FrameConverter:
    return FrameConverter("rgb", index.height, index.width, index.orientation)


def plain_frames(index: FrameIndex) -> list[np.ndarray]:
    """All frames, decoded by PyAV alone."""
    with av.open(index.path) as container:
        convert = converter_of(index)
        return [convert(frame) for frame in container.decode(video=0)]


def isolated_reader(index: FrameIndex) -> WatchedReader:
    return WatchedReader(index, "pyav", 8, converter_of(index), isolated=True)


def test_reading_a_segment(index: FrameIndex, settings: Settings, failure: Any):
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=[17])
    result = Engine(settings).run_segment(index, 5, 40, isolated=True)
    statuses = result.table.table().column("status").to_pylist()
    assert statuses == ["ok"] * 12 + ["missing"] * 7 + ["ok"] * 16
    means = result.table.table().column("mean").to_pylist()
    frames = plain_frames(index)
    for number, status, mean in zip(range(5, 40), statuses, means, strict=True):
        expected = frames[number].mean() / 255 if status == "ok" else None
        assert mean == (None if expected is None else pytest.approx(expected, abs=1e-5))
    assert result.skipped_reason == f"the decoder {REASONS[how]} at frame 17"


def test_the_sample_for_prepare(index: FrameIndex, settings: Settings, failure: Any):
    """The frame that fails is left out of the sample."""
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=[24])
    engine = Engine(settings)
    reason = prepare_model(engine.model, index, settings, isolated=True)
    assert reason == f"in the sample for prepare(), the decoder {REASONS[how]} at frame 24"
    frames = plain_frames(index)
    expected = np.stack([frames[number] for number in (0, 12, 36)]).transpose(0, 3, 1, 2)
    assert torch.equal(engine.model.sample, torch.from_numpy(expected))


def test_the_sample_for_prepare_after_a_hang_of_this_process(
    index: FrameIndex, settings: Settings, hang_here: Callable[[int], None]
):
    """A child reads the rest: nothing is left out."""
    hang_here(24)
    engine = Engine(settings)
    assert prepare_model(engine.model, index, settings) == ""
    frames = plain_frames(index)
    expected = np.stack([frames[number] for number in (0, 12, 24, 36)]).transpose(0, 3, 1, 2)
    assert torch.equal(engine.model.sample, torch.from_numpy(expected))


@pytest.mark.parametrize("failure", ["abort"], indirect=True)
def test_a_sample_of_which_all_frames_fail(index: FrameIndex, settings: Settings, failure: Any):
    """All of the sample shares one budget: after three failures the rest of it is skipped."""
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=list(range(40)))
    engine = Engine(settings)
    reason = prepare_model(engine.model, index, settings, isolated=True)
    assert f"the decoder {REASONS[how]} at frame 0" in reason
    assert engine.model.sample.shape == (0, 3, index.height, index.width)


def test_the_nearest_usable_frame(index: FrameIndex, failure: Any):
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=[27])
    frames = plain_frames(index)
    with isolated_reader(index) as reader:
        assert np.array_equal(last_usable_frame_before(reader, 30), frames[26])
        assert reader.skipped_reason == f"the decoder {REASONS[how]} at frame 27"
        assert np.array_equal(first_usable_frame_from(reader, 27), frames[36])


def test_the_nearest_usable_frame_after_a_hang_of_this_process(
    index: FrameIndex, hang_here: Callable[[int], None]
):
    hang_here(27)
    frames = plain_frames(index)
    with WatchedReader(index, "pyav", 8, converter_of(index)) as reader:
        assert np.array_equal(last_usable_frame_before(reader, 30), frames[29])
        assert np.array_equal(first_usable_frame_from(reader, 27), frames[27])
        assert reader.skipped_reason == ""


@pytest.mark.parametrize("failure", ["abort"], indirect=True)
def test_reading_and_the_search_share_a_budget(index: FrameIndex, failure: Any):
    """Two failures of reading leave none to the search, though frames before can be decoded."""
    prepare = failure[1]
    prepare(FAILING_DECODER, numbers=[24, 36])
    with isolated_reader(index) as reader:
        assert [frame.status for frame in reader.frames(24, 40)] == ["missing"] * 16
        with reader.for_search() as search:
            assert last_usable_frame_before(search, 24) is None


@pytest.mark.parametrize("failure", ["abort"], indirect=True)
def test_the_search_leaves_one_failure_to_reading(index: FrameIndex, failure: Any):
    """After a search that fails everywhere, reading continues after a failure of its own: none."""
    prepare = failure[1]
    prepare(FAILING_DECODER, numbers=[0, 12, 24])
    with isolated_reader(index) as reader:
        with reader.for_search() as search:
            assert last_usable_frame_before(search, 36) is None
        assert [frame.status for frame in reader.frames(36, 40)] == ["ok"] * 4
        assert reader.skipped_reason == "the decoder crashed at frame 24"
        # The third failure of all reads is the last one.
        assert [frame.status for frame in reader.frames(24, 40)] == ["missing"] * 16


class Shown:
    """A sink of frames."""

    def __init__(self) -> None:
        self.fallback: np.ndarray | None = None
        self.frames: list[np.ndarray | None] = []

    def set_fallback(self, frame: np.ndarray) -> None:
        self.fallback = frame

    def write(self, frame: np.ndarray | None, status: str) -> None:
        self.frames.append(frame)


def test_the_fallback_of_the_model_s_frames(index: FrameIndex, settings: Settings, failure: Any):
    """The segment begins at a frame that fails; so does the frame before it."""
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=[27, 28])
    sink = Shown()
    result = Engine(settings).run_segment(index, 28, 40, frame_sink=sink, isolated=True)
    assert result.skipped_reason == f"the decoder {REASONS[how]} at frame 28"
    frames = plain_frames(index)
    assert np.array_equal(sink.fallback, frames[26])
    assert sink.frames[:8] == [None] * 8
    assert all(map(np.array_equal, sink.frames[8:], frames[36:]))


@pytest.mark.parametrize("failure", ["abort"], indirect=True)
def test_the_fallback_where_no_frame_before_can_be_decoded(
    index: FrameIndex, settings: Settings, failure: Any
):
    """It is black, in the size of the frames that the model returns."""
    prepare = failure[1]
    prepare(FAILING_DECODER, numbers=[0], lost=list(range(1, 13)))
    sink = Shown()
    Engine(settings).run_segment(index, 12, 24, frame_sink=sink, isolated=True)
    frame = plain_frames(index)[0]
    assert np.array_equal(sink.fallback, np.zeros_like(frame))


@dataclass
class OneSegment:
    """Runs the model over a segment; in a process that may abort."""

    settings: Settings
    index: FrameIndex
    start: int
    stop: int

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        sink = Shown()
        result = Engine(self.settings).run_segment(
            self.index, self.start, self.stop, frame_sink=sink, isolated=isolated
        )
        statuses = result.table.table().column("status").to_pylist()
        return Outcome(task, "done", (isolated, statuses, result.skipped_reason, sink.fallback))


@pytest.mark.parametrize("failure", ["abort"], indirect=True)
@pytest.mark.parametrize("place", ["prepare", "search"])
def test_an_abort_in_the_process_of_a_job(
    index: FrameIndex, settings: Settings, failure: Any, tmp_path: Path, place: str
):
    """The process ends once; then children read for it, and the segment is done."""
    prepare = failure[1]
    start, stop, number, lost = (0, 12, 24, []) if place == "prepare" else (28, 36, 27, [28])
    prepare(FAILING_DECODER, numbers=[number], lost=lost)
    work = OneSegment(settings, index, start, stop)
    (outcome,) = run_supervised(work, [0], lambda n: None, tmp_path)
    assert outcome.kind == "done"
    isolated, statuses, reason, fallback = outcome.value
    assert isolated
    assert statuses == ["missing" if each in lost else "ok" for each in range(start, stop)]
    if place == "prepare":
        assert reason == "in the sample for prepare(), the decoder crashed at frame 24"
    else:
        assert reason == "the decoder crashed at frame 27"
        assert np.array_equal(fallback, plain_frames(index)[26])


def test_drawing_on_a_segment(index: FrameIndex, settings: Settings, failure: Any):
    how, prepare = failure
    prepare(FAILING_DECODER, numbers=[17])
    rows = [{"frame": number, "time": 0.0, "status": "ok"} for number in range(5, 40)]
    file = io.BytesIO()
    reason = OverlayRenderer(settings).encode(
        file, index, 5, 40, rows, lambda n: None, isolated=True
    )
    assert reason == f"the decoder {REASONS[how]} at frame 17"
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert sum(1 for _ in container.decode(video=0)) == 35


def test_drawing_on_a_segment_after_a_hang_of_this_process(
    index: FrameIndex, settings: Settings, hang_here: Callable[[int], None]
):
    """The video is the one that is drawn without any hang."""
    rows = [{"frame": number, "time": 0.0, "status": "ok"} for number in range(5, 40)]
    drawn = []
    for hangs in (False, True):
        if hangs:
            hang_here(17)
        file = io.BytesIO()
        assert OverlayRenderer(settings).encode(file, index, 5, 40, rows, lambda n: None) == ""
        with av.open(io.BytesIO(file.getvalue())) as container:
            drawn.append([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    assert len(drawn[1]) == 35
    assert all(map(np.array_equal, *drawn))


def test_an_index_that_was_lost(clip: Callable[[str], Path], tmp_path: Path, failure: Any):
    """A job builds it again; the file costs itself, and not the process of the job."""
    how, prepare = failure
    cache, source = Cache(tmp_path / "cache"), Source(str(clip(CLIP)), "clip")
    video = probed_row(source, *rebuild_index(source, cache)[1:])
    cache.remove("index", video.index_key)
    assert index_of(video, cache).content_digest == video.digest
    cache.remove("index", video.index_key)
    prepare(FAILING_INDEX)
    reasons = {"abort": "SIGABRT", "hang": "FFmpeg hangs at it", "memory": "out of memory"}
    with pytest.raises(UnreadableVideo, match=reasons[how]):
        index_of(video, cache, 8)


def test_copying_audio(
    clip: Callable[[str], Path], tmp_path: Path, settings: Settings, failure: Any
):
    """The video is complete, without audio, and a warning says so; another video has its own."""
    how, prepare = failure
    index = load_index(clip("audio.mp4"))
    file = io.BytesIO()
    rows = [{"frame": number, "time": 0.0, "status": "ok"} for number in range(index.n_frames)]
    OverlayRenderer(settings).encode(file, index, 0, index.n_frames, rows, lambda n: None)
    segments = partial(list, [(0, index.n_frames, file.getvalue())])
    with WorkerPool(1) as workers:
        assert concat_in_child(workers, segments, index, tmp_path / "whole.mp4", 60) == []
    prepare(FAILING_AUDIO)
    with WorkerPool(1) as workers:
        (warning,) = concat_in_child(workers, segments, index, tmp_path / "silent.mp4", 8)
    assert "its audio and metadata are left out" in warning
    reasons = {"abort": "SIGABRT", "hang": "nothing was read for 8 s", "memory": "out of memory"}
    assert reasons[how] in warning
    for name, n_audio in (("whole.mp4", 1), ("silent.mp4", 0)):
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams.audio) == n_audio
            assert sum(1 for _ in container.decode(video=0)) == index.n_frames
