"""Whole batches from a worker to the main process: uint8 in shared memory, float32 at the end."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pvio.frame_runs import Frame, Run, to_float
from pvio.media.index import FrameIndex

if TYPE_CHECKING:
    from pvio.loader import VideoCollectionDataset

Slot = int


class FrameBatches(IterableDataset):
    """The batches of a dataset; in a worker, those of the worker's share.

    Yields `{"pixels": uint8 or uint16 B×H×W×C, "slot": (worker, slot) or None, "video_paths",
    "frame_indices"}`, or, when the dataset has a transform, `"frames"` (B×C×H×W) for `"pixels"`.
    `pixels` lies in memory that is used again: read it, then `release` the batch.

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
        self._slots: list[torch.Tensor] = []
        self._free: list[Slot] = []
        self._mapped: dict[tuple[int, Slot], Any] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = self._transformed() if self.dataset.transform else self._pixels()
        for batch in batches:
            if not self._drop_last or len(batch["frame_indices"]) == self._batch_size:
                yield batch

    def release(self, batch: dict[str, Any]) -> None:
        """In the main process: the worker may write into the batch's memory again."""
        if batch["slot"] is not None:
            worker, slot = batch["slot"]
            # Kept, so that PyTorch finds the memory mapped when it comes the next time.
            self._mapped[worker, slot] = batch["pixels"].untyped_storage()
            self._released[worker].put(slot)

    def _transformed(self) -> Iterator[dict[str, Any]]:
        for items in split_by_shape(self.dataset, self._batch_size):
            yield {
                "frames": torch.stack([item["frame"] for item in items]),
                "video_paths": [item["video_path"] for item in items],
                "frame_indices": [item["frame_idx"] for item in items],
            }

    def _pixels(self) -> Iterator[dict[str, Any]]:
        self._reclaim_slots()
        batch: dict[str, Any] | None = None
        for frame in self.dataset._frames():
            if batch and not _fits(batch, frame):
                yield _closed(batch)
                batch = None
            if batch is None:
                batch = self._opened(frame)
            frame.into(batch["pixels"][len(batch["frame_indices"])].numpy())
            batch["video_paths"].append(frame.path)
            batch["frame_indices"].append(frame.rank)
            if len(batch["frame_indices"]) == self._batch_size:
                yield _closed(batch)
                batch = None
        if batch:
            yield _closed(batch)

    def _opened(self, frame: Frame) -> dict[str, Any]:
        """An empty batch for frames of this shape and type."""
        worker = get_worker_info()
        slot = 0 if worker is None else self._free_slot(worker.id)
        shape = (self._batch_size, *frame.shape)
        n_bytes = math.prod(shape) * frame.dtype.itemsize
        if slot == len(self._slots):
            self._slots.append(torch.empty(0, dtype=torch.uint8))
        if self._slots[slot].numel() < n_bytes:
            memory = torch.empty(n_bytes, dtype=torch.uint8)
            self._slots[slot] = memory if worker is None else memory.share_memory_()
        pixels = self._slots[slot][:n_bytes].view(_TORCH_TYPES[frame.dtype]).view(shape)
        return {
            "pixels": pixels,
            "slot": None if worker is None else (worker.id, slot),
            "video_paths": [],
            "frame_indices": [],
        }

    def _reclaim_slots(self) -> None:
        """At the start of an epoch all slots are free, also those an epoch that was left held."""
        worker = get_worker_info()
        if worker is not None:
            while not self._released[worker.id].empty():
                self._released[worker.id].get()
        self._free = list(range(len(self._slots)))

    def _free_slot(self, worker: int) -> Slot:
        released = self._released[worker]
        while not released.empty():
            self._free.append(released.get())
        return self._free.pop() if self._free else len(self._slots)


class BatchBuffers:
    """Memory for batches that is used again once nothing refers to it any more.

    Fresh memory for every batch would cost more than the conversion: the kernel has to hand out
    and clear every page of it.
    """

    _KEPT = 3  # the batch in the user's hands, the one being made, and one more

    def __init__(self) -> None:
        self._arrays: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def to_float(self, pixels: torch.Tensor, threads: Executor) -> torch.Tensor:
        """float32 B×C×H×W in [0, 1], contiguous, of B×H×W×C uint8 or uint16."""
        n, height, width, channels = pixels.shape
        out = self._take((n, channels, height, width), np.dtype(np.float32))
        for _ in threads.map(to_float, pixels.numpy(), out):
            pass
        return torch.from_numpy(out)

    def copy(self, pixels: torch.Tensor, threads: Executor) -> torch.Tensor:
        """The same integers as B×C×H×W in channels_last memory, of B×H×W×C."""
        source = pixels.numpy()
        out = self._take(source.shape, source.dtype)
        for _ in threads.map(np.copyto, out, source):
            pass
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of this shape; it is taken as long as the tensor made of it keeps it alive."""
        size = math.prod(shape) * dtype.itemsize
        self._arrays = [
            (memory, user)
            for memory, user in self._arrays
            if user() is not None or memory.size >= size
        ][: self._KEPT]
        for i, (memory, user) in enumerate(self._arrays):
            if user() is None and memory.size >= size:
                del self._arrays[i]
                break
        else:
            memory = np.empty(size, np.uint8)
        view = memory[:size].view(dtype).reshape(shape)
        self._arrays.append((memory, weakref.ref(view)))
        return view


def count_batches(
    runs: Iterable[Run],
    n_frames: Mapping[Path, int],
    indexes: Mapping[Path, FrameIndex],
    batch_size: int,
    drop_last: bool,
) -> int:
    """Number of batches that a worker with these runs makes when no frame is damaged."""
    sizes = [
        (
            (index.height, index.width) if (index := indexes.get(run.path)) else None,
            min(run.stop, n_frames[run.path]) - run.start,
        )
        for run in runs
    ]
    lengths = (sum(n for _, n in same) for _, same in groupby(sizes, key=lambda item: item[0]))
    return sum(n // batch_size if drop_last else math.ceil(n / batch_size) for n in lengths)


def split_by_shape(
    items: Iterable[dict[str, Any]], batch_size: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Lists of consecutive items whose frames have one shape, of at most `batch_size` items."""
    group: list[dict[str, Any]] = []
    for item in items:
        if (group and group[0]["frame"].shape != item["frame"].shape) or len(group) == batch_size:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


_TORCH_TYPES = {np.dtype(np.uint8): torch.uint8, np.dtype(np.uint16): torch.uint16}


def _fits(batch: dict[str, Any], frame: Frame) -> bool:
    pixels = batch["pixels"]
    return pixels.shape[1:] == frame.shape and pixels.dtype == _TORCH_TYPES[frame.dtype]


def _closed(batch: dict[str, Any]) -> dict[str, Any]:
    return batch | {"pixels": batch["pixels"][: len(batch["frame_indices"])]}
