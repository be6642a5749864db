"""Whole batches from a worker to the main process: uint8 in shared memory, float32 at the end."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pvio.loader.frame_ranges import Frame, FrameRange

if TYPE_CHECKING:
    from pvio.loader.dataset import VideoCollectionDataset
from pvio.loader.grouping import split_by_shape

# Batches that the user may hold without a copy.
_MAX_SHARED = 256
# Worker (None: the main process), epoch, and number of the memory that holds a batch.
BufferId = tuple[int | None, int, int]


class FrameBatches(IterableDataset[dict[str, Any]]):
    """The batches of a dataset; in a worker, those of the worker's share.

    Yields `{"slot", "memory", "shape", "dtype", "video_paths", "frame_indices"}`, of which `pixels`
    makes the frames, or, when the dataset has a transform, `{"frames": B×C×H×W, "video_paths",
    "frame_indices"}`. The memory of the pixels is used again: read them, then `release` the slot,
    or let `share` do so. Memory crosses the process border once, and only its slot with every
    batch: to hand over a file descriptor takes as long as to decode a small frame.

    It reads a share only in workers that `EnterWorker` began, which are those of its own loader. In
    any other process, workers of other loaders included, it reads all frames.

    Args:
        dataset: yields the frames.
        batch_size: frames in a batch; fewer at the end and where the shape changes.
        drop_last: whether to leave out the shorter batches.
        n_workers: number of worker processes.
        context: multiprocessing context that starts them; None for PyTorch's default.
    """

    def __init__(
        self,
        dataset: VideoCollectionDataset,
        batch_size: int,
        drop_last: bool,
        n_workers: int,
        context: Any = None,
    ):
        self.dataset = dataset
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._released = [
            (context or torch.multiprocessing).SimpleQueue() for _ in range(n_workers)
        ]
        self._worker: int | None = None
        self._epoch = 0
        self._slots: list[torch.Tensor] = []
        self._free: list[int] = []
        self._unsent: set[int] = set()
        self._mapped: dict[tuple[int, int], torch.Tensor] = {}
        self._n_shared = 0
        # By worker: what came back, for `return_buffers`.
        self._returned: dict[int | None, deque[BufferId]] = {
            worker: deque() for worker in (None, *range(n_workers))
        }

    def enter_worker(self, worker: int) -> None:
        """Note that this process is a worker of the loader of these batches."""
        self._worker = worker

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.dataset.transform:
            for batch in self._transformed():
                if not self._drop_last or len(batch["frame_indices"]) == self._batch_size:
                    yield batch
            return
        for batch in self._filled():
            if not self._drop_last or len(batch["frame_indices"]) == self._batch_size:
                yield self._to_send(batch)
            else:
                self._free.append(batch["slot"][2])

    def pixels(self, batch: dict[str, Any]) -> torch.Tensor:
        """In the main process: the frames of a batch, B×C×H×W for floats, else B×H×W×C."""
        worker, _, number = batch["slot"]
        if worker is None:
            memory = self._slots[number]
        else:
            if batch["memory"] is not None:
                self._mapped[worker, number] = batch["memory"]
            memory = self._mapped[worker, number]
        return _laid_out(memory, batch["shape"], batch["dtype"])

    def release(self, slot: BufferId) -> None:
        """In the main process: the memory of a batch may be written to again."""
        worker, epoch, number = slot
        if worker is not None:
            self._released[worker].put((epoch, number))
        elif epoch == self._epoch:
            self._free.append(number)

    def share(self, pixels: torch.Tensor, slot: BufferId) -> torch.Tensor:
        """In the main process: B×C×H×W of B×H×W×C, without a copy.

        The memory is written to again once nothing refers to it any more. When very many batches
        are held, further ones are copies: each that is shared takes a file descriptor.
        """
        if self._n_shared >= _MAX_SHARED:
            copied = pixels.clone()
            self.release(slot)
            return copied.permute(0, 3, 1, 2)
        array = pixels.numpy()[...]  # lives as long as a tensor that uses its memory
        self._n_shared += 1
        weakref.finalize(array, self._on_released, slot).atexit = False
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def return_buffers(self, worker: int | None) -> None:
        """In the main process, once a batch of a worker is done with: let it have memory again.

        Not more than it takes up: it looks for memory with every batch, and the pipe to it holds a
        limited number of messages.
        """
        returned = self._returned[worker]
        for _ in range(min(2, len(returned))):
            self.release(returned.popleft())

    def _on_released(self, slot: BufferId) -> None:
        """A shared batch is free. Called from anywhere, by the garbage collector as well."""
        self._n_shared -= 1
        self._returned[slot[0]].append(slot)

    def _transformed(self) -> Iterator[dict[str, Any]]:
        for items in split_by_shape(self.dataset._items(self._ranges()), self._batch_size):
            yield {
                "frames": torch.stack([item["frame"] for item in items]),
                "video_paths": [item["video_path"] for item in items],
                "frame_indices": [item["frame_idx"] for item in items],
            }

    def _ranges(self) -> list[FrameRange]:
        """The ranges that this process must read."""
        if self._worker is None:
            return self.dataset._all_ranges()
        return self.dataset._shares(len(self._released))[self._worker]

    def _filled(self) -> Iterator[dict[str, Any]]:
        """Batches whose frames are written to the array `pixels`."""
        self._forget_slots()
        batch: dict[str, Any] | None = None
        for frame in self.dataset._frames(self._ranges()):
            if batch and not _fits(batch, frame):
                yield batch
                batch = None
            if batch is None:
                batch = self._opened(frame)
            frame.into(batch["pixels"][len(batch["frame_indices"])])
            batch["video_paths"].append(frame.path)
            batch["frame_indices"].append(frame.number)
            if len(batch["frame_indices"]) == self._batch_size:
                yield batch
                batch = None
        if batch:
            yield batch

    def _to_send(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as it crosses the process border."""
        pixels, number = batch.pop("pixels"), batch["slot"][2]
        memory = self._slots[number] if number in self._unsent else None
        self._unsent.discard(number)
        shape = (len(batch["frame_indices"]), *pixels.shape[1:])
        return {**batch, "memory": memory, "shape": shape, "dtype": _TORCH_TYPES[pixels.dtype]}

    def _opened(self, frame: Frame) -> dict[str, Any]:
        """An empty batch for frames of this shape and type."""
        worker = self._worker
        number = self._free_slot(worker)
        shape = (self._batch_size, *frame.shape)
        n_bytes = math.prod(shape) * frame.dtype.itemsize
        if number == len(self._slots):
            self._slots.append(torch.empty(0, dtype=torch.uint8))
        if self._slots[number].numel() < n_bytes:
            memory = torch.empty(n_bytes, dtype=torch.uint8)
            self._slots[number] = memory if worker is None else _shared(memory)
            self._unsent.add(number)
        return {
            "pixels": _laid_out(self._slots[number], shape, _TORCH_TYPES[frame.dtype]).numpy(),
            "slot": (worker, self._epoch, number),
            "video_paths": [],
            "frame_indices": [],
        }

    def _forget_slots(self) -> None:
        """Every epoch has memory of its own: the caller may still hold that of the one before."""
        self._epoch += 1
        self._slots, self._free, self._unsent = [], [], set()

    def _free_slot(self, worker: int | None) -> int:
        if worker is not None:
            released = self._released[worker]
            while not released.empty():
                epoch, number = released.get()
                if epoch == self._epoch:
                    self._free.append(number)
        return self._free.pop() if self._free else len(self._slots)


class EnterWorker:
    """Called in every worker of a loader of `FrameBatches`, before the user's `worker_init_fn`.

    There `get_worker_info().dataset` becomes the dataset of the user, who may set it up.
    """

    def __init__(self, worker_init_fn: Callable[[int], Any] | None):
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker: int) -> None:
        """Start the worker of this number."""
        info = get_worker_info()
        assert info is not None
        assert isinstance(info.dataset, FrameBatches)
        info.dataset.enter_worker(worker)
        object.__setattr__(info, "dataset", info.dataset.dataset)  # it refuses to be set plainly
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker)


_TORCH_TYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}


def _shared(memory: torch.Tensor) -> torch.Tensor:
    moved: torch.Tensor = memory.share_memory_()  # type: ignore[no-untyped-call]
    return moved


def _fits(batch: dict[str, Any], frame: Frame) -> bool:
    pixels = batch["pixels"]
    return bool(pixels.shape[1:] == frame.shape and pixels.dtype == frame.dtype)


def _laid_out(memory: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Pixels at the start of memory that may be larger."""
    return memory[: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
