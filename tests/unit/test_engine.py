"""The engine: exact values reach the model, its outputs reach their rows, errors are named."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from pvio.config.settings import Settings, parse_settings
from pvio.errors import ModelError
from pvio.inference.engine import PREFETCHED_BATCHES, Engine
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.predictions.columns import column_to_numpy

Clip = Callable[[str], Path]

MODELS = """
import time
import torch

def pixels(frames):
    return {"pixels": frames}

def mean(frames):
    return frames.float().mean((1, 2, 3))

def several(frames):
    m = frames.float().mean((1, 2, 3))
    return {"mean": m, "bright": m > 0.5, "pair": torch.stack([m, m], 1), "n": (m * 99).int()}

def batch_size(frames):
    return torch.full((len(frames),), len(frames))

def strides(frames):
    channels_last = frames.is_contiguous(memory_format=torch.channels_last)
    return torch.full((len(frames),), channels_last)

def no_tensor(frames):
    return [1.0] * len(frames)

def empty(frames):
    return {}

def numpy_values(frames):
    return {"x": frames.numpy()}

def short(frames):
    return torch.zeros(len(frames) - 1)

def scalar(frames):
    return frames.mean()

def reserved(frames):
    return {"pts": torch.zeros(len(frames))}

def number_as_name(frames):
    return {3: torch.zeros(len(frames))}

def complex_values(frames):
    return torch.zeros(len(frames), dtype=torch.complex64)

class Changing:
    calls = 0
    def __call__(self, frames):
        self.calls += 1
        return torch.zeros(len(frames), self.calls)

class Picky:
    mean = None
    def __call__(self, frames):
        if ((frames.mean((1, 2, 3)) - self.mean).abs() < 1e-5).any():
            raise ValueError("not this frame")
        return torch.zeros(len(frames))

class Failing:
    calls = 0
    def __call__(self, frames):
        self.calls += 1
        if self.calls == 3:
            raise ValueError("cannot see the animal")
        return torch.zeros(len(frames))

class Prepared:
    def __init__(self, fail=False):
        self.videos, self.fail = [], fail
    def prepare(self, video):
        if self.fail:
            raise ValueError("no background")
        self.videos.append(video)
    def __call__(self, frames):
        return torch.zeros(len(frames))

class Convolution(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 2, 3)
        torch.nn.init.constant_(self.layer.weight, 0.1)
    def forward(self, frames):
        return self.layer(frames).mean((2, 3))

def no_values(frames):
    return {"boxes": torch.zeros(len(frames), 0, 4)}

def nothing(frames):
    return None

def words(frames):
    return {"label": ["mouse"] * len(frames)}

def objects(frames):
    import numpy
    return {"thing": numpy.array([object()] * len(frames))}

def nested_dict(frames):
    return {"left": {"x": frames.mean((1, 2, 3))}}

def generator(frames):
    return (each.mean() for each in frames)

def empty_name(frames):
    return {"": frames.mean((1, 2, 3))}

def surrogate_name(frames):
    return {"x\\udcff": frames.mean((1, 2, 3))}

def sparse(frames):
    return {"links": torch.eye(len(frames)).to_sparse()}

def quantized(frames):
    return {"q": torch.quantize_per_tensor(torch.zeros(len(frames)), 0.1, 0, torch.quint8)}

def nested_tensor(frames):
    rows = [torch.zeros(1 + i % 2) for i in range(len(frames))]
    return {"boxes": torch.nested.nested_tensor(rows)}

def meta(frames):
    return {"m": torch.zeros(len(frames), device="meta")}

def many_types(frames):
    values = torch.arange(len(frames)) % 2
    kinds = ("bool", "uint8", "uint16", "uint32", "int8", "int64", "float16", "float64", "bfloat16")
    found = {kind: values.to(getattr(torch, kind)) for kind in (*kinds, "float8_e4m3fn")}
    weight = torch.nn.Parameter(torch.ones(1))
    with torch.inference_mode(False), torch.enable_grad():
        found["with_gradient"] = weight * values.clone().float()
    found["negated_view"] = torch.complex(values.float(), -values.float()).conj().imag
    return found

def in_place(frames):
    found = frames.float().mean((1, 2, 3))
    frames.fill_(255)
    return found

def inverted(frames):
    return {"frames": 1 - frames, "mean": frames.mean((1, 2, 3))}

def halved(frames):
    return {"frames": frames[:, :, ::2, ::2]}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """An engine for a model of `MODELS` by name, and settings."""
    file = tmp_path_factory.mktemp("models") / "engine_models.py"
    file.write_text(MODELS)

    def make(name: str, **model: Any) -> Engine:
        model = {"entry": f"{file}:{name}", "device": "cpu", "batch_size": 7, **model}
        return Engine(parse_settings({"model": model}))

    path = sys.path.copy()
    yield make
    sys.path[:] = path


def columns(engine: Engine, index: FrameIndex, start: int = 0, stop: int = 40) -> dict[str, Any]:
    table = engine.run_segment(index, start, stop).table.table()
    return {name: column_to_numpy(table, name) for name in table.column_names}


@pytest.fixture(scope="module")
def index(clip: Clip) -> FrameIndex:
    return load_index(clip("b_frames.mp4"))


@pytest.fixture(scope="module")
def luma(clip: Clip, ffmpeg: Any) -> np.ndarray:
    return ffmpeg.luma(clip("b_frames.mp4"), 64, 96)


def test_gray_floats_are_luma_over_255(engine: Any, index: FrameIndex, luma: np.ndarray):
    found = columns(engine("pixels"), index)["pixels"]
    assert found.shape == (40, 1, 64, 96)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0], luma.astype(np.float32) / np.float32(255))


def test_gray_bytes_are_luma(engine: Any, index: FrameIndex, luma: np.ndarray):
    found = columns(engine("pixels", dtype="uint8"), index)["pixels"]
    assert found.dtype == np.uint8
    assert np.array_equal(found[:, 0], luma)


def test_rgb_floats_are_ffmpegs_colors_over_255(
    engine: Any, index: FrameIndex, clip: Clip, ffmpeg: Any
):
    found = columns(engine("pixels", channels="rgb"), index)["pixels"]
    expected = ffmpeg.rgb(clip("b_frames.mp4"), 64, 96).transpose(0, 3, 1, 2)
    assert np.array_equal(found, expected.astype(np.float32) / np.float32(255))


def test_normalized_values_are_shifted_and_scaled_by_channel(
    engine: Any, index: FrameIndex, clip: Clip, ffmpeg: Any
):
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    model = engine("pixels", channels="rgb", normalize={"mean": mean, "std": std})
    expected = ffmpeg.rgb(clip("b_frames.mp4"), 64, 96) / 255
    expected = ((expected - mean) / std).transpose(0, 3, 1, 2)
    assert np.allclose(columns(model, index)["pixels"], expected, atol=1e-6)


def test_resized_frames_have_the_size_asked_for(engine: Any, index: FrameIndex):
    found = columns(engine("pixels", size=[16, 24]), index)["pixels"]
    assert found.shape == (40, 1, 16, 24)


def test_turned_videos_reach_the_model_upright(
    engine: Any, rotated_clip: Callable[..., Path], ffmpeg: Any
):
    path = rotated_clip(270)
    found = columns(engine("pixels", dtype="uint8"), load_index(path))["pixels"][:, 0]
    assert np.array_equal(found, ffmpeg.luma(path, 96, 64))


def test_frames_lie_in_channels_last_memory(engine: Any, index: FrameIndex):
    assert columns(engine("strides", channels="rgb"), index)["output"].all()


def test_a_tensor_becomes_the_column_output(engine: Any, index: FrameIndex, luma: np.ndarray):
    found = columns(engine("mean"), index)["output"]
    assert np.allclose(found, luma.mean((1, 2)) / 255, atol=1e-5)


def test_a_dict_becomes_columns_by_name(engine: Any, index: FrameIndex, luma: np.ndarray):
    found = columns(engine("several"), index)
    mean = luma.mean((1, 2)) / 255
    assert np.allclose(found["mean"], mean, atol=1e-5)
    assert found["bright"].dtype == bool
    assert found["pair"].shape == (40, 2)
    assert found["n"].dtype == np.int32


def test_batches_are_counted_from_the_segments_start(engine: Any, index: FrameIndex):
    found = columns(engine("batch_size", batch_size=10), index, 5, 30)
    assert found["frame"].tolist() == list(range(5, 30))
    assert found["output"].tolist() == [10] * 20 + [5] * 5


@pytest.mark.parametrize("batch_size", [1, 3, 40, 64])
def test_predictions_do_not_depend_on_the_batch_size(
    engine: Any, index: FrameIndex, batch_size: int
):
    expected = columns(engine("pixels"), index)["pixels"]
    found = columns(engine("pixels", batch_size=batch_size), index)["pixels"]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("cut", [1, 12, 17, 39])
def test_predictions_of_two_segments_are_those_of_one(engine: Any, index: FrameIndex, cut: int):
    model = engine("pixels")
    parts = [columns(model, index, *span)["pixels"] for span in ((cut, 40), (0, cut))]
    assert np.array_equal(np.concatenate(parts[::-1]), columns(model, index)["pixels"])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_model_that_writes_to_its_input_spoils_no_other_frame(
    engine: Any, index: FrameIndex, dtype: str
):
    expected = columns(engine("mean", dtype=dtype), index)["output"]
    model = engine("in_place", dtype=dtype)
    # Six batches, more than there are buffers; the second run takes the buffers of the first.
    for _ in range(2):
        assert np.array_equal(columns(model, index)["output"], expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_nearly_the_same(engine: Any, index: FrameIndex, precision: str):
    expected = columns(engine("Convolution"), index)["output"]
    found = columns(engine("Convolution", precision=precision), index)["output"]
    assert found.dtype in (np.float16, np.float32)
    spread = expected - expected.mean(0)
    assert np.allclose(found - found.mean(0), spread, atol=0.02)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_tensor", ("list", "frames 0 to 6")),
        ("empty", ("empty dict", "frames 0 to 6")),
        ("numpy_values", ("'x'", "ndarray")),
        ("short", ("'output'", "7", "(6,)")),
        ("scalar", ("'output'", "one row per frame", "()")),
        ("reserved", ("'pts'", "frame, pts, time, status")),
        ("number_as_name", ("3", "strings")),
        ("no_values", ("'boxes'", "(7, 0, 4)", "frames 0 to 6", "no values")),
        ("nothing", ("NoneType", "frames 0 to 6")),
        ("words", ("'label'", "list", "frames 0 to 6")),
        ("objects", ("'thing'", "ndarray", "frames 0 to 6")),
        ("nested_dict", ("'left'", "dict", "frames 0 to 6")),
        ("generator", ("generator", "frames 0 to 6")),
        ("empty_name", ("''", "not empty")),
        ("surrogate_name", ("'x\\udcff'", "cannot be a column")),
        ("sparse", ("'links'", "sparse", "dense", "frames 0 to 6")),
        ("quantized", ("'q'", "quint8", "frames 0 to 6")),
        ("nested_tensor", ("'boxes'", "nested", "frames 0 to 6")),
        ("meta", ("'m'", "meta", "frames 0 to 6")),
        ("complex_values", ("complex",)),
        ("Changing", ("'output'", "frame 7", "(2,)", "(1,)")),
        ("Failing", ("frames 14 to 20", "ValueError", "cannot see the animal")),
    ],
)
def test_a_broken_contract_is_named(
    engine: Any, index: FrameIndex, name: str, words: tuple[str, ...]
):
    with pytest.raises(ModelError) as caught:
        engine(name).run_segment(index, 0, 40)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_all_plain_types_become_columns(engine: Any, index: FrameIndex):
    found = columns(engine("many_types"), index)
    outputs = {name: found[name] for name in list(found)[4:]}
    assert len(outputs) == 12
    widened = ("bfloat16", "float8_e4m3fn", "with_gradient", "negated_view")
    for name, values in outputs.items():
        assert values.dtype == ("float32" if name in widened else name), name
        assert values.astype(float).tolist() == [float(i % 7 % 2) for i in range(40)], name


def test_an_error_names_the_frame_at_which_the_model_fails(
    engine: Any, index: FrameIndex, luma: np.ndarray
):
    means = luma.mean((1, 2)) / 255
    assert sum(abs(means - means[17]) < 1e-4) == 1
    picky = engine("Picky")
    picky.model.mean = means[17]
    with pytest.raises(ModelError, match=r"failed on frame 17: ValueError: not this frame"):
        picky.run_segment(index, 0, 40)


def test_the_models_own_exception_is_the_cause(engine: Any, index: FrameIndex):
    with pytest.raises(ModelError) as caught:
        engine("Failing").run_segment(index, 0, 40)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.fixture
def decoding_threads() -> Callable[[], list[threading.Thread]]:
    """Those that decode, of this test."""
    before = set(threading.enumerate())
    return lambda: [
        thread for thread in set(threading.enumerate()) - before if thread.name == "pvio-prefetch"
    ]


def test_decoding_ends_when_the_model_raises(engine: Any, index: FrameIndex, decoding_threads: Any):
    model = engine("Failing", batch_size=2)
    with pytest.raises(ModelError):
        model.run_segment(index, 0, 40)
    assert decoding_threads() == []


def test_decoding_ends_with_the_segment(engine: Any, index: FrameIndex, decoding_threads: Any):
    columns(engine("mean"), index)
    assert decoding_threads() == []


def test_an_engine_works_on_after_a_model_raised(engine: Any, index: FrameIndex):
    model = engine("Failing")
    with pytest.raises(ModelError):
        model.run_segment(index, 0, 40)
    assert len(columns(model, index)["output"]) == 40


def test_an_exception_while_decoding_reaches_the_caller(
    engine: Any, index: FrameIndex, monkeypatch: pytest.MonkeyPatch, decoding_threads: Any
):
    def broken(*args: Any) -> Iterator[Any]:
        raise OSError("the disk is gone")
        yield

    monkeypatch.setattr(FrameConverter, "convert_into", broken)
    monkeypatch.setattr("pvio.media.decode.reader.PyAVReader.frames", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        engine("mean").run_segment(index, 0, 40)
    assert decoding_threads() == []


def test_an_exception_on_the_way_to_the_model_leaves_no_thread(
    clip: Clip, engine: Any, decoding_threads: Any
):
    index = load_index(clip("b_frames.mp4"))
    model = engine("mean", batch_size=2)
    sends = 0
    send = model.transfer.upload

    def failing(pixels: np.ndarray) -> Any:
        nonlocal sends
        sends += 1
        if sends % 3 == 0:
            raise MemoryError("the device is full")
        return send(pixels)

    model.transfer.upload = failing
    for _ in range(20):
        with pytest.raises(MemoryError, match="the device is full"):
            model.run_segment(index, 0, 40)
    assert decoding_threads() == []


def test_prepare_sees_every_video_once(engine: Any, index: FrameIndex, clip: Clip):
    model = engine("Prepared")
    for start in (0, 12, 24):
        model.run_segment(index, start, start + 5)
    other = load_index(clip("plain.mp4"))
    model.run_segment(other, 0, 5)
    assert [video.path for video in model.model.videos] == [index.path, other.path]


def test_prepare_sees_the_facts_of_the_video(engine: Any, rotated_clip: Callable[..., Path]):
    model = engine("Prepared", size=[32, 16], channels="rgb")
    model.run_segment(load_index(rotated_clip(90)), 0, 5)
    (video,) = model.model.videos
    assert (video.n_frames, video.height, video.width) == (40, 96, 64)
    assert (video.input_height, video.input_width, video.channels) == (32, 16, 3)
    assert video.rate == 25
    sample = video.sample(4)
    assert sample.shape == (4, 3, 32, 16)
    assert sample.dtype == torch.uint8


def test_a_failing_prepare_is_named(engine: Any, index: FrameIndex):
    with pytest.raises(ModelError, match=r"prepare\(\).*no background"):
        engine("Prepared", args={"fail": True}).run_segment(index, 0, 5)


@pytest.fixture
def damaged(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip whose index was made before its second half was lost."""
    path = tmp_path / "damaged.mkv"
    path.write_bytes(clip("matroska.mkv").read_bytes())
    index = load_index(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return index


def test_rows_of_unusable_frames_are_null(engine: Any, damaged: FrameIndex):
    found = columns(engine("mean"), damaged)
    usable = np.isin(found["status"], ["ok", "suspect"])
    assert 0 < usable.sum() < 40
    assert np.array_equal(np.isnan(found["output"]), ~usable)


def test_batches_keep_their_frames_where_some_are_missing(engine: Any, damaged: FrameIndex):
    found = columns(engine("batch_size", batch_size=10), damaged)
    usable = np.isin(found["status"], ["ok", "suspect"])
    for first in range(0, 40, 10):
        rows = slice(first, first + 10)
        values = np.ma.getdata(found["output"])[rows][usable[rows]]
        assert (values == usable[rows].sum()).all()


def test_a_segment_without_usable_frames_has_rows(engine: Any, damaged: FrameIndex):
    result = engine("mean").run_segment(damaged, 36, 40)
    assert result.metadata()["status"] == {"missing": 4}
    assert result.table.table().num_rows == 4


def test_progress_counts_every_frame(engine: Any, index: FrameIndex):
    steps: list[int] = []
    engine("mean").run_segment(index, 3, 40, progress=steps.append)
    assert sum(steps) == 37


def test_seconds_are_reported(engine: Any, index: FrameIndex):
    seconds = engine("mean").run_segment(index, 0, 40).metadata()["seconds"]
    assert set(seconds) == {"total", "decode", "model", "cost", "prepare"}
    assert all(value >= 0 for value in seconds.values())


class Taken:
    """Keeps what a sink of frames gets."""

    def __init__(self) -> None:
        self.before: list[np.ndarray] = []
        self.frames_of: list[np.ndarray | None] = []
        self.status: list[str] = []

    def set_fallback(self, image: np.ndarray) -> None:
        assert not self.frames_of
        self.before.append(image)

    def write(self, image: np.ndarray | None, status: str) -> None:
        self.frames_of.append(image)
        self.status.append(status)


def test_frames_go_to_the_writer_and_not_to_the_table(
    engine: Any, index: FrameIndex, luma: np.ndarray
):
    taken = Taken()
    result = engine("inverted").run_segment(index, 0, 40, frame_sink=taken)
    assert "frames" not in result.table.table().column_names
    assert np.array_equal(np.stack(taken.frames_of)[..., 0], 255 - luma)
    assert taken.status == ["ok"] * 40
    assert taken.before == []


def test_frames_without_usable_frames_are_none_for_the_writer(engine: Any, damaged: FrameIndex):
    taken = Taken()
    result = engine("inverted").run_segment(damaged, 0, 40, frame_sink=taken)
    assert taken.status == list(column_to_numpy(result.table.table(), "status"))
    has_slice = [image is not None for image in taken.frames_of]
    assert has_slice == [status in ("ok", "suspect") for status in taken.status]
    assert has_slice[0]
    assert not has_slice[39]


def test_a_segment_without_usable_frames_shows_the_last_one_before(
    engine: Any, damaged: FrameIndex
):
    whole, part = Taken(), Taken()
    engine("inverted").run_segment(damaged, 0, 40, frame_sink=whole)
    engine("inverted").run_segment(damaged, 30, 40, frame_sink=part)
    shown = [image for image in whole.frames_of[:30] if image is not None]
    assert part.frames_of == [None] * 10
    [before] = part.before
    assert before.std() > 10
    assert np.array_equal(before, shown[-1])


@pytest.fixture
def headless(clip: Clip, tmp_path: Path) -> FrameIndex:
    """A clip whose first two GOPs are overwritten."""
    path = tmp_path / "headless.mkv"
    path.write_bytes(clip("matroska.mkv").read_bytes())
    index = load_index(path)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    third = [packet for packet in packets if packet.is_keyframe][2]
    data = bytearray(path.read_bytes())
    for packet in packets[: packets.index(third)]:
        at = data.index(bytes(packet))
        data[at : at + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return index


def test_a_video_that_begins_without_usable_frames_is_black_in_the_size_of_the_others(
    engine: Any, headless: FrameIndex
):
    first, stop = 0, int(headless.keyframes[1])
    taken = Taken()
    engine("halved").run_segment(headless, first, stop, frame_sink=taken)
    assert taken.frames_of == [None] * stop
    [before] = taken.before
    assert before.shape[:2] == (headless.height // 2, headless.width // 2)
    assert not before.any()


def test_a_video_without_usable_frames_is_black_in_its_own_size(engine: Any, damaged: FrameIndex):
    path = Path(damaged.path)
    path.write_bytes(path.read_bytes()[:600])
    taken = Taken()
    engine("halved").run_segment(damaged, 0, 40, frame_sink=taken)
    [before] = taken.before
    assert before.shape[:2] == (damaged.height, damaged.width)
    assert not before.any()


def test_a_model_without_frames_cannot_fill_a_video(engine: Any, index: FrameIndex):
    with pytest.raises(ModelError, match="frames"):
        engine("mean").run_segment(index, 0, 40, frame_sink=Taken())


def test_the_model_continues_while_frames_are_written(engine: Any, index: FrameIndex):
    went_on = threading.Event()
    model = engine("inverted", batch_size=10)
    calls = 0

    def inverted(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 2:
            went_on.set()
        return {"frames": 1 - frames}

    model.model = inverted
    overlapped: list[bool] = []

    class Slow(Taken):
        def write(self, image: np.ndarray | None, status: str) -> None:
            if not overlapped:
                overlapped.append(went_on.wait(10))

    model.run_segment(index, 0, 40, frame_sink=Slow())
    assert overlapped == [True]


def test_what_the_writer_raises_comes_back(engine: Any, index: FrameIndex):
    class Full(Taken):
        def write(self, image: np.ndarray | None, status: str) -> None:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        engine("inverted").run_segment(index, 0, 40, frame_sink=Full())


def test_decoding_stays_a_bounded_number_of_batches_ahead(
    engine: Any, index: FrameIndex, monkeypatch: pytest.MonkeyPatch
):
    decoded = 0
    convert = FrameConverter.convert_into

    def counting(*args: Any) -> None:
        nonlocal decoded
        decoded += 1
        convert(*args)

    monkeypatch.setattr(FrameConverter, "convert_into", counting)
    model = engine("mean", batch_size=2)
    ahead: list[int] = []

    def slow(frames: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        ahead.append(decoded - 2 * len(ahead))
        return torch.zeros(len(frames))

    model.model = slow
    model.run_segment(index, 0, 40)
    # Batches that wait, one in the making and the one at the model.
    assert max(ahead) <= 2 * (PREFETCHED_BATCHES + 2)
    assert max(ahead) > 2  # more than the one at the model


def test_a_thread_that_hangs_writes_to_no_batch(
    engine: Any, index: FrameIndex, monkeypatch: pytest.MonkeyPatch, decoding_threads: Any
):
    expected = columns(engine("pixels"), index)["pixels"]
    model = engine("pixels")
    model.settings = model.settings.model_copy(update={"decoder_timeout": 8.0})
    convert, stuck, resume = (
        FrameConverter.convert_into,
        threading.Event(),
        threading.Event(),
    )

    def into(self: Any, image: Any, out: np.ndarray) -> None:
        if not stuck.is_set() and out.ctypes.data == model.transfer._buffers[2].ctypes.data:
            stuck.set()
            resume.wait(60)
            out[...] = 255
            return
        convert(self, image, out)

    monkeypatch.setattr(FrameConverter, "convert_into", into)
    assert np.array_equal(columns(model, index)["pixels"], expected)
    (stuck_thread,) = decoding_threads()
    pixels = model.model

    def late(frames: torch.Tensor) -> Any:
        time.sleep(0.1)  # all buffers are filled
        resume.set()
        stuck_thread.join()
        return pixels(frames)

    model.model = late
    assert np.array_equal(columns(model, index)["pixels"], expected)
    assert decoding_threads() == []


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [("auto", "pyav"), ("pyav", "pyav"), ("torchcodec", "torchcodec"), ("cuda", "cuda")],
)
def test_auto_means_pyav(decoder: str, expected: str):
    settings: Settings = parse_settings({"decoder": decoder, "model": {"channels": "rgb"}})
    assert settings.resolved_decoder == expected
