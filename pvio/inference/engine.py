"""Inference on one segment: decode, batch, run the model, collect, write; all at the same time."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from pvio.concurrency.background import Behind
from pvio.config.settings import Settings
from pvio.errors import ModelError
from pvio.inference.transfer import Sent, Transfer, transfer_to
from pvio.media.decode.reader import sample_pictures
from pvio.media.decode.sampling import first_picture_from, last_picture_before
from pvio.media.decode.watchdog import GuardedReader
from pvio.media.decoders.frame import SHOWN, Decoded, Status
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.models.contract import BASE_COLUMNS, FRAMES_OUTPUT, HasPrepare, VideoInfo
from pvio.models.loading import choose_device, load_model, take_cuda_device
from pvio.predictions.table import SegmentTable

# Batches decoded ahead of the model. A job's memory is bounded by this many batches of uint8
# pictures, one more in the making, one at the model, and one batch in the model's dtype.
BATCHES_AHEAD = 2
# Batches of pictures the model returned that wait to be written, while another one is.
BATCHES_BEHIND = 1

# Types of outputs that are stored as they are; others become float32.
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)

Progress = Callable[[int], None]


class FramesSink(Protocol):
    """Takes the pictures that the model returned, uint8 H×W×C; called in a thread of its own."""

    def begin(self, picture: np.ndarray) -> None:
        """What a segment shows that begins without a picture; called in front of its frames."""

    def write(self, picture: np.ndarray | None, status: Status) -> None:
        """The next frame; None for one without a picture."""


class Batch(NamedTuple):
    """Some frames of a segment.

    Attributes:
        ranks: of the frames that have a picture to trust.
        sent: one picture for each of `ranks`, on its way to the model; None without any.
        buffer: where the pictures lie; it is used again.
        status: of every frame of the batch, by rank.
        decode_seconds: spent on reading and converting.
    """

    ranks: list[int]
    sent: Sent | None
    buffer: np.ndarray
    status: dict[int, Status]
    decode_seconds: float


class Returned(NamedTuple):
    """Pictures that the model returned for a batch.

    Attributes:
        status: of all frames of the batch, by rank.
        with_picture: ranks of those that the model saw.
        frames: one picture for each of these, B×C×H×W; None when the model returned none.
        before: uint8 H×W×C, what the segment begins with; None where a picture follows.
    """

    status: dict[int, Status]
    with_picture: list[int]
    frames: np.ndarray | None
    before: np.ndarray | None


@dataclass
class SegmentResult:
    """What inference on a segment gave.

    Attributes:
        table: the rows.
        seconds: total, and spent on decoding and in the model; cost, and the part of it in the
            model's `prepare`, see `SegmentReceipt.cost`.
        given_up: why frames were given up, as words; "" when none were.
    """

    table: SegmentTable
    seconds: dict[str, float] = field(default_factory=dict)
    given_up: str = ""

    def facts(self) -> dict[str, Any]:
        """What the store keeps beside the table."""
        seconds = {name: round(value, 4) for name, value in self.seconds.items()}
        return {
            "status": self.table.counts(),
            "seconds": seconds,
            "given_up": self.given_up,
            "not_finite": self.table.not_finite(),
        }


def input_converter(index: FrameIndex, settings: Settings) -> FrameConverter:
    """Makes of decoded frames what the model gets, in uint8."""
    height, width = settings.model.size or (index.height, index.width)
    return FrameConverter(settings.model.channels, height, width, index.orientation)


def decoder_beside(device: torch.device, settings: Settings) -> str:
    """The decoder for a model on a device, as `open_reader` takes it.

    CUDA decodes on the model's device. For a model on the CPU it takes one, as models do; PyTorch
    for the CPU alone sees none, and then it is the first.
    """
    decoder = settings.resolved_decoder
    if decoder != "cuda":
        return decoder
    if device.type == "cpu" and torch.cuda.device_count() > 0:
        return f"cuda:{take_cuda_device()}"
    return f"cuda:{device.index or 0}"


class Engine:
    """A loaded model and the way frames reach it.

    Args:
        settings: the sections `model` and `decoder` matter.

    Raises:
        ConfigError, ModelError: when the model cannot be loaded.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.device = choose_device(settings.model.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # what a model calls "cuda" is this one, too
        self.decoder = decoder_beside(self.device, settings)
        self.model = load_model(settings.model, self.device)
        self.transfer = transfer_to(self.device, settings.model)
        # Of the CPU, whatever else the machine does; a CUDA device works on no such clock.
        self._clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        self._prepared: str | None = None

    def run(
        self,
        index: FrameIndex,
        start: int,
        stop: int,
        *,
        progress: Progress = lambda n: None,
        frames_sink: FramesSink | None = None,
        careful: bool = False,
    ) -> SegmentResult:
        """Run the model over the frames `[start, stop)`.

        Args:
            index: of the video.
            start, stop: ranks; batches are counted from `start`.
            progress: called with the number of frames done since the last call.
            frames_sink: takes every frame in order, with what the model returned under `frames`.
            careful: whether to decode in a sub-process, which may crash.

        Raises:
            ModelError: when the model raises or breaks the contract; names the frames.
        """
        began, spent = time.perf_counter(), self._clock()
        converter = input_converter(index, self.settings)
        patience = self.settings.decoder_timeout
        reader = GuardedReader(index, self.decoder, patience, converter, isolated=careful)
        result = SegmentResult(SegmentTable(index, start, stop))
        decoding = inferring = preparing = 0.0
        with contextlib.ExitStack() as stack:
            stack.callback(reader.close)
            behind: Behind[Returned] | None = None
            if frames_sink is not None:
                hand_over = partial(_hand_over, sink=frames_sink)
                behind = stack.enter_context(Behind(hand_over, BATCHES_BEHIND))
            batches = contextlib.closing(self._batches(reader, converter, start, stop))
            for batch in stack.enter_context(batches):
                decoding += batch.decode_seconds
                for rank, status in batch.status.items():
                    result.table.set_status(rank, status)
                frames = None
                if batch.sent is not None:
                    # Only now: a video without a single good picture cannot be looked at.
                    preparing += self._prepare(index)
                    at = time.perf_counter()
                    outputs = self._call(batch.ranks, batch.sent)
                    inferring += time.perf_counter() - at
                    frames = outputs.pop(FRAMES_OUTPUT, None)
                    result.table.add(batch.ranks, outputs)
                if behind is not None:
                    begins_bare = start in batch.status and start not in batch.ranks
                    before = self._picture_before(index, start, stop) if begins_bare else None
                    behind.put(Returned(batch.status, batch.ranks, frames, before))
                progress(len(batch.status))
        result.given_up = reader.given_up
        total = time.perf_counter() - began
        result.seconds = {
            "total": total,
            "decode": decoding,
            "model": inferring,
            "cost": self._clock() - spent,
            "prepare": preparing,
        }
        return result

    def _picture_before(self, index: FrameIndex, start: int, stop: int) -> np.ndarray:
        """What `frames` show of a segment that begins without a picture.

        The model's picture of the last frame before that has one; where there is none, a black one
        of the size of those to come, or of the source's when none comes.
        """
        converter = input_converter(index, self.settings)
        how = (self.decoder, self.settings.decoder_timeout, converter)
        picture = last_picture_before(index, start, *how)
        is_first = picture is None
        if is_first:
            picture = first_picture_from(index, start, *how)
        if picture is None:
            return np.zeros((index.height, index.width, 1), np.uint8)
        self._prepare(index)
        sent = self.transfer.send(picture[np.newaxis])
        outputs = self._call([start], sent)
        self.transfer.done_with(sent)
        shown = as_pictures(_frames_of(outputs.get(FRAMES_OUTPUT)))[0]
        return np.zeros_like(shown) if is_first else shown

    def _prepare(self, index: FrameIndex) -> float:
        """Let the model look at the video, once for all of its segments in this process.

        Returns:
            The seconds this took, by the clock of costs.
        """
        if not isinstance(self.model, HasPrepare) or self._prepared == index.content_digest:
            return 0.0
        began = self._clock()
        self._prepared = None
        try:
            self.model.prepare(video_info(index, self.settings))
        except Exception as error:
            raise ModelError(f"the model's prepare() failed: {error!r}") from error
        self._prepared = index.content_digest
        return self._clock() - began

    def _batches(
        self, reader: GuardedReader, converter: FrameConverter, start: int, stop: int
    ) -> Generator[Batch]:
        """Batches, made ahead in a thread; a batch's buffer is valid until the next one."""
        size = min(self.settings.model.batch_size, stop - start)
        free: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        buffers = self.transfer.buffers(BATCHES_AHEAD + 2, (size, *converter.output_shape))
        for buffer in buffers:
            free.put(buffer)

        def fill(start: int, frames: Iterator[Decoded]) -> Iterator[tuple[Batch, int]]:
            for first in range(start, stop, size):
                buffer = free.get()
                if buffer is None:
                    return
                last = min(first + size, stop)
                yield _fill(frames, last, buffer, converter, self.transfer), last

        batches = reader.made_of(start, stop, fill, depth=len(buffers))
        try:
            for batch in batches:
                yield batch
                if batch.sent is not None:
                    self.transfer.done_with(batch.sent)
                free.put(batch.buffer)
        finally:
            reader.cancel()
            free.put(None)  # whoever waits for one
            batches.close()
            if reader.left_behind:
                self.transfer.forget_buffers()
            self.transfer.finish()

    def _call(self, ranks: list[int], sent: Sent) -> dict[str, np.ndarray]:
        where = f"frames {ranks[0]} to {ranks[-1]}"
        try:
            frames = self.transfer.receive(sent)
            with torch.inference_mode(), self._autocast():
                returned = self.model(frames)
        except Exception as error:
            raise ModelError(
                f"the model failed on {where}: {type(error).__name__}: {error}"
            ) from error
        return _outputs(returned, len(ranks), where)

    def _autocast(self) -> torch.autocast:
        wanted = self.settings.model.precision
        dtype = torch.bfloat16 if wanted == "float32" else getattr(torch, wanted)
        return torch.autocast(self.device.type, dtype, enabled=wanted != "float32")


def video_info(index: FrameIndex, settings: Settings) -> VideoInfo:
    """What `prepare` gets to see."""
    converter = input_converter(index, settings)

    def sample(n: int) -> torch.Tensor:
        # PyAV here whatever decodes the segments: the sample is the same on every machine.
        reader = GuardedReader(index, "pyav", settings.decoder_timeout, converter)
        try:
            return torch.from_numpy(sample_pictures(reader, converter, n)).permute(0, 3, 1, 2)
        finally:
            reader.close()

    return VideoInfo(
        path=index.path,
        n_frames=index.n_frames,
        height=index.height,
        width=index.width,
        input_height=converter.output_shape[0],
        input_width=converter.output_shape[1],
        channels=converter.output_shape[2],
        rate=float(index.average_rate),
        time_base=index.time_base,
        sample=sample,
    )


def as_pictures(frames: np.ndarray) -> np.ndarray:
    """B×C×H×W of uint8, or float in [0, 1], as uint8 B×H×W×C.

    Raises:
        ModelError: for other shapes or types.
    """
    if frames.ndim != 4 or frames.shape[1] not in (1, 3):
        raise ModelError(
            f"the model's 'frames' must be B×3×H×W or B×1×H×W, got shape {frames.shape}"
        )
    if frames.dtype.kind == "f":
        frames = (np.clip(np.nan_to_num(frames), 0, 1) * 255 + 0.5).astype(np.uint8)
    elif frames.dtype != np.uint8:
        raise ModelError(f"the model's 'frames' must be uint8 or float, got {frames.dtype}")
    return np.ascontiguousarray(frames.transpose(0, 2, 3, 1))


def _fill(
    frames: Iterator[Decoded],
    stop: int,
    buffer: np.ndarray,
    converter: FrameConverter,
    transfer: Transfer,
) -> Batch:
    began = time.perf_counter()
    ranks: list[int] = []
    status: dict[int, Status] = {}
    for decoded in frames:
        status[decoded.rank] = decoded.status
        if decoded.picture is not None and decoded.status in SHOWN:
            converter.convert_into(decoded.picture, buffer[len(ranks)])
            ranks.append(decoded.rank)
        if decoded.rank == stop - 1:
            break
    sent = transfer.send(buffer[: len(ranks)]) if ranks else None
    return Batch(ranks, sent, buffer, status, time.perf_counter() - began)


def _hand_over(returned: Returned, sink: FramesSink) -> None:
    if returned.before is not None:
        sink.begin(returned.before)
    made: Iterable[np.ndarray] = ()
    if returned.with_picture:
        made = as_pictures(_frames_of(returned.frames))
    pictures = dict(zip(returned.with_picture, made, strict=True))
    for rank, status in returned.status.items():
        sink.write(pictures.get(rank), status)


def _frames_of(frames: np.ndarray | None) -> np.ndarray:
    if frames is None:
        raise ModelError(
            "output.video is 'frames', but the model returned no output named 'frames' "
            "(B×C×H×W, uint8 or float in [0, 1])"
        )
    return frames


def _outputs(returned: Any, n: int, where: str) -> dict[str, np.ndarray]:
    """The model's outputs as arrays, checked against the contract."""
    if isinstance(returned, torch.Tensor):
        returned = {"output": returned}
    if not isinstance(returned, dict) or not returned:
        raise ModelError(
            "the model must return a Tensor or a dict of Tensors, it returned "
            f"{'an empty dict' if returned == {} else type(returned).__name__} for {where}"
        )
    return {name: _output(name, value, n, where) for name, value in returned.items()}


def _output(name: Any, value: Any, n: int, where: str) -> np.ndarray:
    """One output as an array of shape (n, ...).

    Raises:
        ModelError: when it cannot be a column of the predictions; names output, shape and frames.
    """
    if not isinstance(name, str) or not name or name in BASE_COLUMNS or not _is_text(name):
        raise ModelError(
            f"the model's output {name!r} cannot be a column: names are strings, not empty, other "
            "than " + ", ".join(BASE_COLUMNS)
        )
    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"the model's output '{name}' must be a Tensor with one row a frame ({n} for {where}), "
            f"got {type(value).__name__}"
        )
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise ModelError(
            f"the model's output '{name}' for {where} is no plain Tensor ({_kind_of(value)}): "
            "return a dense one, with values of its own"
        )
    shape = tuple(value.shape)
    if not shape or shape[0] != n:
        raise ModelError(
            f"the model's output '{name}' must be a Tensor with one row a frame ({n} for {where}), "
            f"got shape {shape}"
        )
    if 0 in shape:
        raise ModelError(
            f"the model's output '{name}' has the shape {shape} for {where}: no values per frame; "
            "leave it out, or fill what is absent with NaN"
        )
    if value.is_complex():
        raise ModelError(f"the model's output '{name}' is complex; return its real and imag")
    if value.is_floating_point() and value.dtype not in _NUMPY_FLOATS:
        value = value.float()  # bfloat16 and the types of 8 bits: NumPy has none
    array: np.ndarray = value.detach().resolve_neg().to("cpu", copy=True).numpy()
    return array


def _kind_of(value: torch.Tensor) -> str:
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return str(value.dtype)
    return "on the meta device" if value.is_meta else str(value.layout)


def _is_text(name: str) -> bool:
    """Whether a string can be written as UTF-8: lone surrogates cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
