"""The data loader of parallel-video-io 0.1.3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader

from pvio.loader.dataset import VideoCollectionDataset, count_workers, no_frame_error
from pvio.loader.float_buffers import FloatBuffers
from pvio.loader.frame_ranges import FrameRange
from pvio.loader.grouping import count_batches, split_by_shape
from pvio.loader.shared_memory import EnterWorker, FrameBatches


class VideoCollectionDataLoader(DataLoader[Any]):
    """Batches of frames of a `VideoCollectionDataset`, read by several processes.

    Iterating yields `{"frames": float32 B×C×H×W in [0, 1], "video_paths": list of Path,
    "frame_indices": list of int}`. A batch has `batch_size` frames; it is shorter at the end of
    a worker's share and where the size of the frames changes (`drop_last` drops both). With
    `batch_size=None` single frames come as the dataset yields them. Frames cross the process
    border as uint8, a batch at a time, unless the dataset has a `transform` or a subclass yields
    frames of its own. A subclass may have its own `_collate`, which makes a batch of a list of
    `batch_size` frames, whatever their sizes.

    With several workers the batches of their videos take turns; the frames of one video come in
    ascending order, unless the dataset has `split_videos`.

    Args:
        dataset: its work is shared among `num_workers` here.
        **kwargs: those of `torch.utils.data.DataLoader`. A `collate_fn` may only be the loader's
            own, as in what rebuilds a loader from its attributes.

    Raises:
        ValueError: for another dataset, a `batch_sampler` or another `collate_fn`.
        FrameReadError: a RuntimeError, as the dataset; also at the end of an epoch that had not a
            single frame.
    """

    def __init__(self, dataset: VideoCollectionDataset, **kwargs: Any):
        if not isinstance(dataset, VideoCollectionDataset):
            raise ValueError(
                "VideoCollectionDataLoader only works with VideoCollectionDataset, got"
                f" {type(dataset).__name__}."
            )
        if kwargs.get("batch_sampler") is not None:
            raise ValueError("VideoCollectionDataLoader does not support custom batch samplers.")
        is_batched = kwargs.get("batch_size", 1) is not None
        has_own_collate = type(self)._collate is not _BUILT_IN_COLLATE
        collate = self._collate if is_batched or has_own_collate else _as_it_is
        if not _is_same_function(kwargs.get("collate_fn") or collate, collate):
            raise ValueError("VideoCollectionDataLoader must use the built-in collate function.")
        kwargs["collate_fn"] = collate
        super().__init__(dataset, **kwargs)
        # A dataset that yields its own frames is iterated as any other PyTorch dataset.
        yields_own = type(dataset).__iter__ is not VideoCollectionDataset.__iter__
        self._whole_batches = is_batched and not yields_own and not has_own_collate
        self._split_items = is_batched and yields_own and not has_own_collate
        self._batch_loader: DataLoader[Any] | None = None
        self._buffers = FloatBuffers()
        dataset.assign_workers(n_frame_loading_workers=self.num_workers)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        if not self._whole_batches and not self._split_items:
            return super().__iter__()
        if self._batch_loader is None or not self.persistent_workers:
            self._batch_loader = self._new_batch_loader()
        if self._split_items:
            return itertools.chain.from_iterable(self._batch_loader)
        source = self._batch_loader.dataset
        assert isinstance(source, FrameBatches)
        if self.num_workers:
            source.dataset._shares(self.num_workers)  # what is wrong is raised before workers start
        return self._iterate_batches(source, iter(self._batch_loader))

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickle and copy: workers and memory of an epoch stay with this loader."""
        state = {"_batch_loader": None, "_buffers": FloatBuffers(), "_iterator": None}
        return {**self.__dict__, **state}

    def __len__(self) -> int:
        """Number of batches when no frame is damaged and all images of a folder are of one size."""
        if not self._whole_batches:
            return super().__len__()
        dataset = self.dataset
        assert isinstance(dataset, VideoCollectionDataset)
        if self.num_workers == 0:
            shares: Sequence[list[FrameRange]] = [dataset._all_ranges()]
        else:
            shares = dataset._shares(self.num_workers)
        n_frames = dataset.n_frames_lookup
        assert self.batch_size is not None
        assert n_frames is not None
        return sum(
            count_batches(share, n_frames, dataset._videos.indexes, self.batch_size, self.drop_last)
            for share in shares
        )

    @staticmethod
    def _collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of frames, as the dataset yields them, of one size."""
        sizes = {tuple(item["frame"].shape): item["video_path"] for item in batch}
        if len(sizes) > 1:
            (one, path), (other, other_path), *_ = sizes.items()
            raise ValueError(
                f"frames of {path}, {one}, and of {other_path}, {other}, cannot be in one batch."
                " VideoCollectionDataLoader ends a batch there; with another loader give all frames"
                " one size, e.g. by the dataset's `transform`"
            )
        return {
            "frames": torch.stack([item["frame"] for item in batch]),
            "video_paths": [item["video_path"] for item in batch],
            "frame_indices": [item["frame_idx"] for item in batch],
        }

    def _iterate_batches(
        self, source: FrameBatches, batches: Iterator[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        is_empty = True
        with ThreadPoolExecutor(min(4, count_workers(-1))) as threads:
            for batch in batches:
                is_empty = False
                if "frames" in batch:
                    frames = batch["frames"]
                elif source.dataset.dtype == "float32":
                    frames = self._buffers.convert(source.pixels(batch), threads)
                    source.release(batch["slot"])
                else:
                    frames = source.share(source.pixels(batch), batch["slot"])
                if self.pin_memory and torch.accelerator.is_available():
                    frames = frames.pin_memory()
                yield {
                    "frames": frames,
                    "video_paths": batch["video_paths"],
                    "frame_indices": batch["frame_indices"],
                }
                worker = batch["slot"][0] if "slot" in batch else None
                del frames, batch  # so that the memory is free once the caller lets go of it
                source.return_buffers(worker)
        # With `drop_last` all frames may be in batches that were left out.
        if is_empty and (not self.drop_last or len(self)):
            raise no_frame_error(source.dataset)

    def _new_batch_loader(self) -> DataLoader[Any]:
        assert isinstance(self.dataset, VideoCollectionDataset)
        assert self.batch_size is not None
        context = self.multiprocessing_context
        how: dict[str, Any]
        if self._whole_batches:
            of_worker = (self.batch_size, self.drop_last, self.num_workers, context)
            how = {
                "dataset": FrameBatches(self.dataset, *of_worker),
                "batch_size": None,
                "collate_fn": _as_it_is,
                "worker_init_fn": EnterWorker(self.worker_init_fn),
            }
        else:
            how = {
                "dataset": self.dataset,
                "batch_size": self.batch_size,
                "drop_last": self.drop_last,
                "collate_fn": _collate_by_shape,
                "worker_init_fn": self.worker_init_fn,
                "pin_memory": self.pin_memory,
            }
        return DataLoader(
            **how,
            num_workers=self.num_workers,
            timeout=self.timeout,
            multiprocessing_context=context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
            in_order=self.in_order,
        )


_BUILT_IN_COLLATE = VideoCollectionDataLoader._collate


def _is_same_function(one: Any, other: Any) -> bool:
    """Whether two are the same function, or the same method of two loaders."""
    return getattr(one, "__func__", one) is getattr(other, "__func__", other)


def _collate_by_shape(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Batches of the items, a new one wherever the shape of the frames changes."""
    return [_BUILT_IN_COLLATE(group) for group in split_by_shape(items)]


def _as_it_is(item: Any) -> Any:
    return item
