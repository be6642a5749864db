"""Frames of many videos for PyTorch: the dataset and data loader of parallel-video-io 0.1.3."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pvio.batches import FloatBuffers, FrameBatches, count_batches, split_by_shape
from pvio.errors import UnreadableVideo
from pvio.frame_runs import Frame, Run, balance_runs, decode_runs, to_float, whole_runs
from pvio.image_folders import frame_number, sorted_images
from pvio.media.index import FrameIndex, load_index

logger = logging.getLogger(__name__)


class LengthUnknown(ValueError, TypeError):
    """`len()` before `assign_workers`; as a TypeError it lets `list(dataset)` do without."""


class VideoCollectionDataset(IterableDataset):
    r"""The frames of many videos, one by one.

    Iterating yields `{"frame": float32 C×H×W in [0, 1], "video_path": Path, "frame_idx": int}`,
    the frames of one video in order. Videos have 3 channels (RGB, upright), or 1 with
    `channels="gray"`: the luma samples as coded, which costs no conversion. Images keep their
    channels: 1 (grey), 3 or 4 (alpha). Values are exactly `uint8 / 255` (`uint16 / 65535`), or with
    `dtype="uint8"` these integers themselves. A video that
    cannot be read and frames that are damaged are skipped with a warning that names them;
    `frame_idx` stays the frame's number in the video.

    Args:
        paths: video files, or folders of images with `as_image_dirs`; each is read once.
        as_image_dirs: whether each path is a folder with one image a frame.
        frame_sorting: order of the images: None sorts by name, a regex by the one integer it
            captures in the name, e.g. `r"frame\D*(\d+)"`. Unused for video files.
        transform: applied to every frame last, in the process that reads it.
        channels: "rgb", or "gray" for video files.
        dtype: "float32", or "uint8" (uint16 for images of 16 bits). Batches of these have
            channels_last memory, which is shared with the workers, and used again once nothing
            refers to it any more.

    Attributes:
        video_paths: `paths` as `Path` objects.
        frame_sortings: for every image folder its files in the order of the frames.
        worker_assignments: for every worker the paths it reads frames of, in its order; None
            before `assign_workers`. A video that is shared by workers is in the list of each.
            Lists that are set by hand are followed: a worker then reads these videos whole.
        n_frames_lookup: number of frames of every path; None before `assign_workers`.

    Raises:
        ValueError: when a path is no file (no folder), a name has not exactly one number, or
            `channels` or `dtype` is none of the above.
    """

    # Defaults for subclasses that do not call `__init__`.
    worker_assignments: list[list[Path]] | None = None
    n_frames_lookup: dict[Path, int] | None = None
    channels: str = "rgb"
    dtype: str = "float32"

    def __init__(
        self,
        paths: Sequence[Path | str],
        as_image_dirs: bool = False,
        frame_sorting: str | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        channels: Literal["rgb", "gray"] = "rgb",
        dtype: Literal["float32", "uint8"] = "float32",
    ):
        if channels not in ("rgb", "gray") or (as_image_dirs and channels != "rgb"):
            raise ValueError(f"channels must be 'rgb', or 'gray' for video files, got {channels!r}")
        if dtype not in ("float32", "uint8"):
            raise ValueError(f"dtype must be 'float32' or 'uint8', got {dtype!r}")
        self.channels, self.dtype = channels, dtype
        self.video_paths = [Path(path) for path in paths]
        self.as_image_dirs = as_image_dirs
        self.frame_sorting = frame_sorting
        self.transform = transform
        self.worker_assignments = None
        self.n_frames_lookup = None
        self.frame_sortings: dict[Path, list[Path]] = {}
        self._indexes: dict[Path, FrameIndex] = {}
        self._worker_runs: list[list[Run]] = []
        for path in self.video_paths:
            if as_image_dirs and not path.is_dir():
                raise ValueError(f"{path} is not a valid directory; folders of images are expected")
            if not as_image_dirs and not path.is_file():
                raise ValueError(f"{path} is not a valid file; video files are expected")
        if as_image_dirs:
            for path in self.video_paths:
                self.frame_sortings[path] = sorted_images(path, frame_sorting)

    def assign_workers(
        self, n_frame_loading_workers: int, n_metadata_indexing_workers: int = -1
    ) -> None:
        """Count the frames and share them among workers.

        Videos go to workers whole, longest first, when that balances them; else videos are cut
        at keyframes, so that one long video keeps all workers busy.

        Args:
            n_frame_loading_workers: number of workers; 0 is one, -1 all cores.
            n_metadata_indexing_workers: threads that read frame indexes; -1 is all cores.
        """
        n_workers = _n_workers(n_frame_loading_workers)
        paths = list(dict.fromkeys(self.video_paths))
        if self.as_image_dirs:
            self.n_frames_lookup = {path: len(self.frame_sortings[path]) for path in paths}
        else:
            self._read_indexes(paths, _n_workers(n_metadata_indexing_workers))
            self.n_frames_lookup = {
                path: self._indexes[path].n_frames if path in self._indexes else 0 for path in paths
            }
        self._worker_runs = balance_runs(self.n_frames_lookup, self._indexes, n_workers)
        self.worker_assignments = _paths_of(self._worker_runs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for frame in self._frames():
            pixels = frame.pixels()
            if self.dtype == "float32":
                floats = np.empty(pixels.shape, np.float32)
                to_float(pixels, floats)
                picture = torch.from_numpy(floats)
            else:
                picture = torch.from_numpy(pixels).permute(2, 0, 1)
            yield {
                "frame": self.transform(picture) if self.transform else picture,
                "video_path": frame.path,
                "frame_idx": frame.rank,
            }

    def __len__(self) -> int:
        """Number of frames of all videos.

        Raises:
            ValueError: before `assign_workers`.
        """
        if self.n_frames_lookup is None:
            raise LengthUnknown(
                "VideoCollectionDataset length is unknown until workers are assigned."
                " Call `assign_workers()` before using `len()`."
            )
        return sum(self.n_frames_lookup.values())

    @staticmethod
    def _extract_frame_number(filename: str, pattern: str) -> int:
        return frame_number(filename, pattern)

    def _frames(self) -> Iterator[Frame]:
        """The frames of this process."""
        planar = self.dtype == "float32"
        sources = (self._own_runs(), self._indexes, self.frame_sortings)
        return decode_runs(*sources, self.channels, planar)

    def _own_runs(self) -> list[Run]:
        """What the process that asks has to read: all of it, or its share as a worker."""
        worker = get_worker_info()
        if worker is None:
            n_frames = self.n_frames_lookup or {}
            return whole_runs(path for path in self.video_paths if n_frames.get(path, 1))
        return self._runs_of_worker(worker.id)

    def _runs_of_worker(self, worker: int) -> list[Run]:
        if self.worker_assignments is None:
            raise ValueError(
                "Call `assign_workers(num_workers)` first, or use VideoCollectionDataLoader."
            )
        if self.worker_assignments != _paths_of(self._worker_runs):  # set by hand
            return whole_runs(self.worker_assignments[worker])
        # A loader may have more workers than were assigned.
        return self._worker_runs[worker] if worker < len(self._worker_runs) else []

    def _read_indexes(self, paths: list[Path], n_threads: int) -> None:
        def read(path: Path) -> FrameIndex | UnreadableVideo:
            try:
                return load_index(path)
            except UnreadableVideo as error:
                return error

        self._indexes = {}
        with ThreadPoolExecutor(n_threads) as pool:
            for path, index in track(
                zip(paths, pool.map(read, paths), strict=True),
                description="Indexing videos",
                total=len(paths),
                console=Console(stderr=True),
                disable=not sys.stderr.isatty(),
            ):
                if isinstance(index, FrameIndex):
                    self._indexes[path] = index
                else:
                    logger.warning("%s; skipped", index)


class VideoCollectionDataLoader(DataLoader):
    """Batches of frames of a `VideoCollectionDataset`, read by several processes.

    Iterating yields `{"frames": float32 B×C×H×W in [0, 1], "video_paths": list of Path,
    "frame_indices": list of int}`. A batch has `batch_size` frames; it is shorter at the end of
    a worker's share and where the size of the pictures changes (`drop_last` drops both). With
    `batch_size=None` single frames come as the dataset yields them. Frames cross the process
    border as uint8, a batch at a time, unless the dataset has a `transform` or a subclass yields
    frames of its own.

    Args:
        dataset: its work is shared among `num_workers` here.
        **kwargs: those of `torch.utils.data.DataLoader`.

    Raises:
        ValueError: for another dataset, a `batch_sampler` or a `collate_fn`.
    """

    def __init__(self, dataset: VideoCollectionDataset, **kwargs: Any):
        if not isinstance(dataset, VideoCollectionDataset):
            raise ValueError(
                "VideoCollectionDataLoader only works with VideoCollectionDataset, got"
                f" {type(dataset).__name__}."
            )
        if kwargs.get("batch_sampler") is not None:
            raise ValueError("VideoCollectionDataLoader does not support custom batch samplers.")
        if kwargs.get("collate_fn") is not None:
            raise ValueError("VideoCollectionDataLoader must use the built-in collate function.")
        is_batched = kwargs.get("batch_size", 1) is not None
        kwargs["collate_fn"] = _collate_runs if is_batched else _as_it_is
        super().__init__(dataset, **kwargs)
        # A dataset that yields its own frames is iterated as any other PyTorch dataset.
        yields_own = type(dataset).__iter__ is not VideoCollectionDataset.__iter__
        self._whole_batches = is_batched and not yields_own
        self._batch_loader: DataLoader | None = None
        self._buffers = FloatBuffers()
        dataset.assign_workers(n_frame_loading_workers=self.num_workers)

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        if self._whole_batches:
            if self._batch_loader is None or not self.persistent_workers:
                self._batch_loader = self._new_batch_loader()
            source = self._batch_loader.dataset
            assert isinstance(source, FrameBatches)
            return self._iterate_batches(source, iter(self._batch_loader))
        if self.batch_size is None:
            return super().__iter__()
        return itertools.chain.from_iterable(super().__iter__())

    def __len__(self) -> int:
        """Number of batches when no frame is damaged and all images of a folder are of one size."""
        if not self._whole_batches:
            return super().__len__()
        dataset = self.dataset
        assert isinstance(dataset, VideoCollectionDataset)
        if self.num_workers == 0:
            shares = [whole_runs(dataset.video_paths)]
        else:
            shares = [dataset._runs_of_worker(worker) for worker in range(self.num_workers)]
        n_frames = dataset.n_frames_lookup
        assert self.batch_size is not None
        assert n_frames is not None
        return sum(
            count_batches(share, n_frames, dataset._indexes, self.batch_size, self.drop_last)
            for share in shares
        )

    @staticmethod
    def _collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "frames": torch.stack([item["frame"] for item in batch]),
            "video_paths": [item["video_path"] for item in batch],
            "frame_indices": [item["frame_idx"] for item in batch],
        }

    def _iterate_batches(
        self, source: FrameBatches, batches: Iterator[dict[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(min(4, _n_workers(-1))) as threads:
            for batch in batches:
                if "frames" in batch:
                    frames = batch["frames"]
                elif source.dataset.dtype == "float32":
                    frames = self._buffers.convert(source.pixels(batch), threads)
                    source.release(batch["slot"])
                else:
                    frames = source.lend(source.pixels(batch), batch["slot"])
                if self.pin_memory and torch.accelerator.is_available():
                    frames = frames.pin_memory()
                yield {
                    "frames": frames,
                    "video_paths": batch["video_paths"],
                    "frame_indices": batch["frame_indices"],
                }
                worker = batch["slot"][0] if "slot" in batch else None
                del frames, batch  # so that the memory is free once the caller lets go of it
                source.pass_on(worker)

    def _new_batch_loader(self) -> DataLoader:
        assert isinstance(self.dataset, VideoCollectionDataset)
        assert self.batch_size is not None
        context = self.multiprocessing_context
        return DataLoader(
            FrameBatches(self.dataset, self.batch_size, self.drop_last, self.num_workers, context),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            timeout=self.timeout,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=context,
            generator=self.generator,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=self.persistent_workers,
            in_order=self.in_order,
        )


def _collate_runs(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Batches of the items, a new one wherever the shape of the frames changes."""
    return [VideoCollectionDataLoader._collate(run) for run in split_by_shape(items)]


def _as_it_is(item: Any) -> Any:
    return item


def _paths_of(worker_runs: list[list[Run]]) -> list[list[Path]]:
    return [list(dict.fromkeys(run.path for run in runs)) for runs in worker_runs]


def _n_workers(asked: int) -> int:
    """-1 is all cores, -2 all but one, and so on; at least 1."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, asked if asked >= 0 else (n_cores or 1) + 1 + asked)
