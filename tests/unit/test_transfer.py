"""Transfer: the model gets the same values on every device, and copies overlap the model.

No CUDA device is needed here: `FakeCuda` replaces `torch.cuda`, and the copies go to the CPU.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pvio.config.model import ModelSettings
from pvio.config.settings import parse_settings
from pvio.errors import ModelError
from pvio.inference.engine import PREFETCHED_BATCHES, Engine
from pvio.inference.transfer import CudaTransfer, Transfer, transfer_to
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

Clip = Callable[[str], Path]
CPU = torch.device("cpu")
NORMALIZE = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
SETTINGS = {
    "gray": ModelSettings(),
    "rgb": ModelSettings(channels="rgb"),
    "uint8": ModelSettings(channels="rgb", dtype="uint8"),
    "normalized": ModelSettings(channels="rgb", normalize=NORMALIZE),
}


class FakeCuda:
    """What `CudaTransfer` uses of `torch.cuda`; notes what happens to which copy."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.happened = threading.Condition()
        self.numbers = itertools.count()

    def note(self, what: str, number: int) -> None:
        with self.happened:
            self.calls.append((what, number))
            self.happened.notify_all()

    def wait_for(self, what: str, number: int) -> bool:
        with self.happened:
            return self.happened.wait_for(lambda: (what, number) in self.calls, timeout=20)

    def Stream(self, device: torch.device) -> FakeStream:  # noqa: N802
        return FakeStream(self)

    def current_stream(self, device: torch.device) -> FakeStream:
        return FakeStream(self)

    def Event(self) -> FakeEvent:  # noqa: N802
        return FakeEvent(self, next(self.numbers))

    def stream(self, stream: FakeStream) -> Any:
        return contextlib.nullcontext()


class FakeStream:
    def __init__(self, cuda: FakeCuda):
        self.cuda = cuda

    def wait_event(self, event: FakeEvent) -> None:
        self.cuda.note("model waits for", event.number)

    def synchronize(self) -> None:
        self.cuda.note("all copies complete", -1)


class FakeEvent:
    def __init__(self, cuda: FakeCuda, number: int):
        self.cuda, self.number = cuda, number

    def record(self, stream: FakeStream) -> None:
        self.cuda.note("copy started", self.number)

    def synchronize(self) -> None:
        self.cuda.note("copy complete", self.number)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()

    def record_stream(self: torch.Tensor, stream: FakeStream) -> None:
        fake.note("memory is kept", 0)

    monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)
    return fake


def pixels(settings: ModelSettings, n: int = 5) -> np.ndarray:
    """Frames of 16×16 with all values of a byte in every channel."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    channels = 3 if settings.channels == "rgb" else 1
    return np.stack([np.roll(values, i, 0).repeat(channels, 2) for i in range(n)])


def received(transfer: Transfer, frames_of: np.ndarray) -> torch.Tensor:
    buffer = transfer.buffers(1, (len(frames_of) + 2, *frames_of.shape[1:]))[0]
    buffer[: len(frames_of)] = frames_of
    return transfer.to_model_input(transfer.upload(buffer[: len(frames_of)]))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_device_gets_bit_by_bit_what_the_cpu_gets(name: str, cuda: FakeCuda):
    settings = SETTINGS[name]
    expected = received(Transfer(CPU, settings), pixels(settings))
    found = received(CudaTransfer(CPU, settings, cuda), pixels(settings))
    assert found.dtype == expected.dtype
    assert found.stride() == expected.stride()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_floats_are_the_exact_quotients(kind: str, cuda: FakeCuda):
    settings = SETTINGS["gray"]
    transfer = Transfer(CPU, settings) if kind == "cpu" else CudaTransfer(CPU, settings, cuda)
    found = received(transfer, pixels(settings)).numpy()
    expected = pixels(settings).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("name", SETTINGS)
def test_batches_lie_in_channels_last_memory(name: str, kind: str, cuda: FakeCuda):
    settings = SETTINGS[name]
    transfer = Transfer(CPU, settings) if kind == "cpu" else CudaTransfer(CPU, settings, cuda)
    batch = received(transfer, pixels(settings))
    assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_memory_of_floats_is_used_again(kind: str, cuda: FakeCuda):
    settings = SETTINGS["rgb"]
    transfer = Transfer(CPU, settings) if kind == "cpu" else CudaTransfer(CPU, settings, cuda)
    first = received(transfer, pixels(settings))
    assert received(transfer, pixels(settings, 3)).data_ptr() == first.data_ptr()
    assert received(transfer, pixels(settings, 9)).shape == (9, 3, 16, 16)


def test_memory_of_frames_is_used_again_by_the_next_segment():
    transfer = Transfer(CPU, SETTINGS["rgb"])
    first = [buffer.ctypes.data for buffer in transfer.buffers(3, (4, 16, 16, 3))]
    assert [buffer.ctypes.data for buffer in transfer.buffers(3, (4, 16, 16, 3))] == first
    assert transfer.buffers(3, (5, 16, 16, 3))[0].shape == (5, 16, 16, 3)


def test_bytes_reach_a_model_on_the_cpu_without_a_copy():
    transfer = Transfer(CPU, SETTINGS["uint8"])
    (buffer,) = transfer.buffers(1, (4, 16, 16, 3))
    assert transfer.to_model_input(transfer.upload(buffer)).data_ptr() == buffer.ctypes.data


def test_the_cpu_has_no_copies_to_wait_for():
    assert type(transfer_to(CPU, ModelSettings())) is Transfer


class Counting(TorchDispatchMode):
    """Counts the operators that run, as a device counts the kernels that are launched."""

    n = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        self.n += "_." in str(function)  # those that write
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["rgb", "normalized"])
def test_a_device_converts_all_frames_of_a_batch_at_once(name: str, cuda: FakeCuda):
    settings = SETTINGS[name]
    transfer = CudaTransfer(CPU, settings, cuda)
    counts = []
    for n in (2, 30):
        sent = transfer.upload(pixels(settings, n))
        with Counting() as counting:
            transfer.to_model_input(sent)
        counts.append(counting.n)
    assert counts[0] == counts[1] == (4 if name == "normalized" else 2)


@pytest.fixture
def index(clip: Clip) -> FrameIndex:
    return load_index(clip("b_frames.mp4"))


@pytest.fixture
def engine(tmp_path: Path, cuda: FakeCuda) -> Callable[..., Engine]:
    """An engine with batches of 5 frames, whose model is the function that is given."""
    (tmp_path / "any_model.py").write_text("def model(frames):\n    pass\n")

    def make(model: Callable[[torch.Tensor], torch.Tensor], **settings: Any) -> Engine:
        fields = {"entry": f"{tmp_path}/any_model.py:model", "device": "cpu", "batch_size": 5}
        engine = Engine(parse_settings({"model": {**fields, **settings}}))
        engine.transfer = CudaTransfer(CPU, engine.settings.model, cuda)
        engine.model = model
        return engine

    return make


def test_the_next_batch_is_copied_while_the_model_runs(
    index: FrameIndex, engine: Any, cuda: FakeCuda
):
    overlapped = []

    def model(frames: torch.Tensor) -> torch.Tensor:
        overlapped.append(cuda.wait_for("copy started", min(len(overlapped) + 1, 7)))
        return torch.zeros(len(frames))

    engine(model).run_segment(index, 0, 40)
    assert overlapped == [True] * 8


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_model_waits_for_the_copy_of_its_own_batch(
    index: FrameIndex, engine: Any, cuda: FakeCuda, dtype: str
):
    numbers = itertools.count()

    def model(frames: torch.Tensor) -> torch.Tensor:
        cuda.note("model", next(numbers))
        return torch.zeros(len(frames))

    engine(model, dtype=dtype).run_segment(index, 0, 40)
    calls = [call for call in cuda.calls if call[0] in ("model", "model waits for")]
    assert calls == [(what, n) for n in range(8) for what in ("model waits for", "model")]
    assert cuda.calls.count(("memory is kept", 0)) == 8


def test_a_buffer_is_filled_again_only_after_its_copy(
    index: FrameIndex, engine: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
):
    frames_of = itertools.count()
    convert = FrameConverter.convert_into

    def into(*args: Any) -> None:
        n = next(frames_of)
        if n % 5 == 0:
            cuda.note("filled", n // 5)
        convert(*args)

    monkeypatch.setattr(FrameConverter, "convert_into", into)
    engine(lambda frames: torch.zeros(len(frames))).run_segment(index, 0, 40)
    ring = PREFETCHED_BATCHES + 2
    refilled = range(8 - ring)
    assert refilled
    for number in refilled:
        complete = cuda.calls.index(("copy complete", number))
        assert complete < cuda.calls.index(("filled", number + ring))


def test_the_decoding_thread_starts_the_copies(
    index: FrameIndex, engine: Any, monkeypatch: pytest.MonkeyPatch
):
    threads = set()
    send = CudaTransfer.upload

    def noting(self: CudaTransfer, frames_of: np.ndarray) -> Any:
        threads.add(threading.current_thread().name)
        return send(self, frames_of)

    monkeypatch.setattr(CudaTransfer, "upload", noting)
    engine(lambda frames: torch.zeros(len(frames))).run_segment(index, 0, 40)
    assert threads == {"pvio-prefetch"}


def test_no_copy_is_on_its_way_when_the_model_has_failed(
    index: FrameIndex, engine: Any, cuda: FakeCuda
):
    def model(frames: torch.Tensor) -> torch.Tensor:
        raise ValueError("out of memory")

    with pytest.raises(ModelError):
        engine(model).run_segment(index, 0, 40)
    assert cuda.calls[-1] == ("all copies complete", -1)


def test_predictions_are_those_of_the_cpu(index: FrameIndex, engine: Any):
    def model(frames: torch.Tensor) -> torch.Tensor:
        return frames.clone()

    found = engine(model).run_segment(index, 0, 40).table.table()
    plain = engine(model)
    plain.transfer = Transfer(CPU, plain.settings.model)
    assert found.equals(plain.run_segment(index, 0, 40).table.table())
