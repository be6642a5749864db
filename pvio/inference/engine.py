"""Read frames, batch them, run the model and collect rows, all at the same time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from pvio.concurrency.background import BackgroundConsumer
from pvio.concurrency.restart import restartable
from pvio.config.settings import Settings
from pvio.errors import ModelError, breaks_cuda
from pvio.inference.batches import Batch, BufferPool, make_batches
from pvio.inference.frames_sink import PENDING_WRITES, FrameSink, ModelFrames, write_frames
from pvio.inference.outputs import checked_outputs, required_frames, to_uint8_frames
from pvio.inference.prepare import input_converter, prepare_model
from pvio.inference.transfer import PendingBatch, transfer_to
from pvio.media.decode.sampling import first_usable_frame_from, last_usable_frame_before
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.index.frame_index import FrameIndex
from pvio.models.contract import FRAMES_OUTPUT, HasPrepare
from pvio.models.loading import acquire_cuda_device, load_model, resolve_device
from pvio.predictions.table import SegmentTable

# Batches decoded before the model asks for them. A job's memory is bounded by this many batches of
# uint8 frames, one more in the making, one at the model, and one batch in the model's dtype.
PREFETCHED_BATCHES = 2

Progress = Callable[[int], None]


@dataclass
class SegmentResult:
    """The result of inference on a segment.

    Attributes:
        table: the rows.
        seconds: total, and spent on decoding and in the model; cost, and the part of it in the
            model's `prepare`, see `SegmentReceipt.cost`.
        skipped_reason: why frames were skipped; "" if none were.
    """

    table: SegmentTable
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("total", "decode", "model", "cost", "prepare"), 0.0)
    )
    skipped_reason: str = ""

    def metadata(self) -> dict[str, Any]:
        """The metadata of the cache entry."""
        seconds = {name: round(value, 4) for name, value in self.seconds.items()}
        return {
            "status": self.table.status_counts(),
            "seconds": seconds,
            "skipped_reason": self.skipped_reason,
            "not_finite": self.table.count_non_finite(),
        }


def decoder_for(device: torch.device, settings: Settings) -> str:
    """The decoder for a model on a device, as `open_reader` takes it.

    CUDA decodes on the model's device. For a model on the CPU it acquires a device, as models do.
    A CPU-only PyTorch sees no device, and the first one is used.
    """
    decoder = settings.resolved_decoder
    if decoder != "cuda":
        return decoder
    if device.type == "cpu" and torch.cuda.device_count() > 0:
        return f"cuda:{acquire_cuda_device()}"
    return f"cuda:{device.index or 0}"


class Engine:
    """A loaded model, and the transfer of frames to it.

    Args:
        settings: the sections `model` and `decoder` matter.

    Raises:
        ConfigError, ModelError: when the model cannot be loaded.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.device = resolve_device(settings.model.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the device that a model calls "cuda"
        self.decoder = decoder_for(self.device, settings)
        self.model = load_model(settings.model, self.device)
        self.transfer = transfer_to(self.device, settings.model)
        # CPU time does not depend on other jobs; a CUDA device has no such clock.
        self._clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        self._prepared: str | None = None
        self._skipped_of_prepared = ""

    def run_segment(
        self,
        index: FrameIndex,
        start: int,
        stop: int,
        *,
        progress: Progress = lambda n: None,
        frame_sink: FrameSink | None = None,
        isolated: bool = False,
    ) -> SegmentResult:
        """Run the model over the frames `[start, stop)`.

        Frames are read and batched in a thread (`read_frames`, `make_batches`), which restarts
        in a child process when the decoder hangs. The model runs in this thread. The frames that it
        returns are written in another thread.

        Args:
            index: of the video.
            start: number of the first frame; batches are counted from it.
            stop: number after the last one.
            progress: called with the number of frames done since the last call.
            frame_sink: receives every frame in order, with the model's output `frames`.
            isolated: whether to decode in a child process, which may crash.

        Raises:
            ModelError: when the model raises or breaks the contract; names the frames.
        """
        began, spent = time.perf_counter(), self._clock()
        converter, timeout = input_converter(index, self.settings), self.settings.decoder_timeout
        result = SegmentResult(SegmentTable(index, start, stop))
        seconds = result.seconds
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(
                WatchedReader(index, self.decoder, timeout, converter, isolated)
            )
            writer = None
            if frame_sink is not None:
                write = partial(write_frames, sink=frame_sink)
                writer = stack.enter_context(BackgroundConsumer(write, PENDING_WRITES))
            batches = self._batches(reader, start, stop, converter.output_shape)
            for batch in stack.enter_context(contextlib.closing(batches)):
                seconds["decode"] += batch.decode_seconds
                for number, status in batch.statuses.items():
                    result.table.set_status(number, status)
                frames = self._run_batch(batch, index, reader.isolated, result)
                if writer is not None:
                    fallback = None
                    if start in batch.statuses and start not in batch.numbers:
                        fallback = self._fallback_frame(index, start, reader)
                    writer.put(ModelFrames(batch.statuses, batch.numbers, frames, fallback))
                progress(len(batch.statuses))
        result.skipped_reason = reader.skipped_reason or self._skipped_in_prepare(index)
        seconds["total"], seconds["cost"] = time.perf_counter() - began, self._clock() - spent
        return result

    def _batches(
        self, reader: WatchedReader, start: int, stop: int, shape: tuple[int, ...]
    ) -> Generator[Batch]:
        """Batches, made in a thread; a batch's buffer is valid until the next one.

        When the decoder hangs, the unfinished batch is made again from frames of a child process.
        """
        size, n_buffers = min(self.settings.model.batch_size, stop - start), PREFETCHED_BATCHES + 2
        with BufferPool(self.transfer, n_buffers, (size, *shape)) as pool:

            def attempt(at: int) -> Generator[Batch]:
                pool.restart()
                frames = reader.read_frames(at, stop)
                return reader.prefetched(make_batches(frames, at, stop, size, pool), n_buffers)

            source = restartable(attempt, start, stop, reader.isolate)
            try:
                for batch in source:
                    yield batch
                    pool.release(batch)
            finally:
                reader.cancel()
                pool.stop()
                source.close()

    def _run_batch(
        self, batch: Batch, index: FrameIndex, isolated: bool, result: SegmentResult
    ) -> np.ndarray | None:
        """Run the model over a batch, and write its rows and seconds to the result.

        Returns:
            The frames that the model returned, if it did.
        """
        if batch.pending is None:
            return None
        # Deferred: `prepare` needs at least one usable frame.
        result.seconds["prepare"] += self._prepare(index, isolated)
        began = time.perf_counter()
        outputs = self._run_model(batch.numbers, batch.pending)
        result.seconds["model"] += time.perf_counter() - began
        frames = outputs.pop(FRAMES_OUTPUT, None)
        result.table.append(batch.numbers, outputs)
        return frames

    def _fallback_frame(self, index: FrameIndex, start: int, segment: WatchedReader) -> np.ndarray:
        """The fallback of `frames` for a segment that begins with an unusable frame.

        It is the model's frame for the last usable frame before. Without one it is black, in the
        size of the model's next frame, or of the source if there is none.
        """
        with segment.for_search() as reader:
            frame = last_usable_frame_before(reader, start)
            is_first = frame is None
            if is_first:
                frame = first_usable_frame_from(reader, start)
        if frame is None:
            return np.zeros((index.height, index.width, 1), np.uint8)
        self._prepare(index, reader.isolated)
        pending = self.transfer.upload(frame[np.newaxis])
        outputs = self._run_model([start], pending)
        self.transfer.release(pending)
        shown = to_uint8_frames(required_frames(outputs.get(FRAMES_OUTPUT)))[0]
        return np.zeros_like(shown) if is_first else shown

    def _prepare(self, index: FrameIndex, isolated: bool) -> float:
        """Call the model's `prepare`, once for all segments of a video in this process.

        Returns:
            The seconds that it took, by the clock of costs.
        """
        if not isinstance(self.model, HasPrepare) or self._prepared == index.content_digest:
            return 0.0
        began = self._clock()
        self._prepared = None
        self._skipped_of_prepared = prepare_model(self.model, index, self.settings, isolated)
        self._prepared = index.content_digest
        return self._clock() - began

    def _skipped_in_prepare(self, index: FrameIndex) -> str:
        """The reason why frames of the sample for `prepare` were skipped; "" if none were."""
        return self._skipped_of_prepared if self._prepared == index.content_digest else ""

    def _run_model(self, numbers: list[int], pending: PendingBatch) -> dict[str, np.ndarray]:
        where = f"frames {numbers[0]} to {numbers[-1]}"
        try:
            returned = self._call_model(pending)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if len(numbers) > 1 and not breaks_cuda(text):
                number = self._failing_frame(numbers, pending, error)
                where = where if number is None else f"frame {number}"
            raise ModelError(f"the model failed on {where}: {text}") from error
        return checked_outputs(returned, len(numbers), where)

    def _call_model(self, pending: PendingBatch) -> Any:
        frames = self.transfer.to_model_input(pending)
        with torch.inference_mode(), self._autocast():
            return self.model(frames)

    def _failing_frame(
        self, numbers: list[int], pending: PendingBatch, failure: Exception
    ) -> int | None:
        """The first frame of a batch at which the model fails alone, with the same kind of error.

        Returns:
            Its number; None if the model fails at all of them, as for a mistake in its code, or
            at none.
        """
        failing = []
        for position, number in enumerate(numbers):
            one = pending._replace(frames=pending.frames[position : position + 1])
            try:
                self._call_model(one)
            except Exception as error:
                if type(error) is type(failure):
                    failing.append(number)
        return failing[0] if 0 < len(failing) < len(numbers) else None

    def _autocast(self) -> torch.autocast:
        wanted = self.settings.model.precision
        dtype = torch.bfloat16 if wanted == "float32" else getattr(torch, wanted)
        return torch.autocast(self.device.type, dtype, enabled=wanted != "float32")
