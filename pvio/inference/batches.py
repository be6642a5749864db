"""Batches of frames, and the memory that they are decoded into."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Generator
from itertools import islice
from typing import NamedTuple

import numpy as np

from pvio.inference.transfer import PendingBatch, Transfer
from pvio.media.decode.watchdog import WatchedFrame
from pvio.media.decoders.frame import Status


class Batch(NamedTuple):
    """Some frames of a segment.

    Attributes:
        numbers: of the usable frames.
        pending: these frames on their way to the model; None without any.
        buffer: where they are stored; used again once the batch is released.
        statuses: of every frame of the batch, by number.
        stop: number of the next frame.
        decode_seconds: spent on reading and converting.
    """

    numbers: list[int]
    pending: PendingBatch | None
    buffer: np.ndarray
    statuses: dict[int, Status]
    stop: int
    decode_seconds: float


class BufferPool:
    """Buffers for batches, which are used again and again.

    Used with `with`. Buffers that are out at its end are not used again.

    Args:
        transfer: whose memory this is.
        n: number of buffers.
        shape: of a buffer, N×H×W×C.
    """

    def __init__(self, transfer: Transfer, n: int, shape: tuple[int, ...]):
        self._transfer, self._n, self._shape = transfer, n, shape
        self._free: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._fill()

    def restart(self) -> None:
        """Begin with all buffers free: new ones if some are out, as a thread may hang in one."""
        self._take_back()
        self._fill()

    def stop(self) -> None:
        """End `acquire`, also one that waits."""
        self._free.put(None)

    def acquire(self) -> np.ndarray | None:
        """A free buffer, waited for; None when no more is needed."""
        return self._free.get()

    def upload(self, filled: np.ndarray) -> PendingBatch:
        """Start the filled part of a buffer on its way to the model."""
        return self._transfer.upload(filled)

    def release(self, batch: Batch) -> None:
        """Make a batch's buffer available again."""
        if batch.pending is not None:
            self._transfer.release(batch.pending)
        self._free.put(batch.buffer)

    def __enter__(self) -> BufferPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._take_back()

    def _fill(self) -> None:
        self._free = queue.SimpleQueue()
        for buffer in self._transfer.buffers(self._n, self._shape):
            self._free.put(buffer)

    def _take_back(self) -> None:
        n_free = 0
        with contextlib.suppress(queue.Empty):
            while True:
                n_free += self._free.get_nowait() is not None
        self._free.put(None)
        self._transfer.synchronize()
        if n_free < self._n:
            self._transfer.drop_buffers()


def make_batches(
    frames: Generator[WatchedFrame], start: int, stop: int, size: int, pool: BufferPool
) -> Generator[Batch]:
    """Batches of the frames `[start, stop)`, each of `size` frames; the last may be shorter.

    Args:
        frames: of these numbers; closed at the end.
        start: number of the first frame.
        stop: number after the last one.
        size: of a batch.
        pool: buffers of `size` frames.
    """
    with contextlib.closing(frames):
        for first in range(start, stop, size):
            buffer = pool.acquire()
            if buffer is None:
                return
            began = time.perf_counter()
            last = min(first + size, stop)
            numbers: list[int] = []
            statuses: dict[int, Status] = {}
            for frame in islice(frames, last - first):
                statuses[frame.number] = frame.status
                if frame.is_usable:
                    frame.write_to(buffer[len(numbers)])
                    numbers.append(frame.number)
            pending = pool.upload(buffer[: len(numbers)]) if numbers else None
            yield Batch(numbers, pending, buffer, statuses, last, time.perf_counter() - began)
