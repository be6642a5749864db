"""Frames of many videos for PyTorch: the dataset of parallel-video-io 0.1.3."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import ChainDataset, IterableDataset, get_worker_info

from pvio.errors import UnreadableVideo
from pvio.loader.frame_ranges import (
    Frame,
    FrameRange,
    FrameReadError,
    OnError,
    Stamp,
    Videos,
    balance_ranges,
    decode_ranges,
    stamp_of,
    to_float,
    whole_videos,
)
from pvio.loader.image_order import frame_number, sorted_images
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)


class UnknownLengthError(ValueError, TypeError):
    """`len()` before `assign_workers`; as a TypeError it lets `list(dataset)` work."""


class VideoCollectionDataset(IterableDataset[dict[str, Any]]):
    r"""The frames of many videos, one by one.

    Iterating yields `{"frame": float32 C×H×W in [0, 1], "video_path": Path, "frame_idx": int}`,
    the frames of one video in order. Videos have 3 channels (RGB, upright), or 1 with
    `channels="gray"`: the luma samples as coded, which costs no conversion. Images keep their
    channels: 1 (gray), 3 or 4 (alpha). Values are exactly `uint8 / 255` (`uint16 / 65535`), or with
    `dtype="uint8"` these integers themselves. `frame_idx` is the frame's number in the video, also
    after frames that were skipped.

    In one process a dataset yields all frames. In the workers of a `DataLoader` each yields its
    share, if workers were assigned; a dataset that was made in the worker, or belongs to an item
    of a map-style dataset, is read whole there.

    Args:
        paths: video files, or folders of images with `as_image_dirs`; each is read once.
        as_image_dirs: whether each path is a folder with one image per frame. An image of several
            pages is an error there: it is a video file of its own.
        frame_sorting: order of the images: None sorts by name, a regex by the one integer it
            captures in the name, e.g. `r"frame\D*(\d+)"`. Unused for video files.
        transform: applied to every frame last, in the process that reads it.
        channels: "rgb", or "gray" for video files.
        dtype: "float32", or "uint8" (uint16 for images of 16 bits). Batches of these have
            channels_last memory, which is shared with the workers, and used again once nothing
            refers to it any more.
        on_error: "raise", or "warn": a video that cannot be read or has changed since its frames
            were counted, an image that cannot be read, and damaged frames are skipped with a
            warning that names them. Frames that are only suspect are yielded in both cases, with
            one warning per video.
        split_videos: whether workers may share a video, cut at keyframes. Then all have the same
            amount to read, also of one long video, and its frames come out of order. Else each
            video is read by one worker, in order.

    Attributes:
        video_paths: `paths` as `Path` objects.
        frame_sortings: for every image folder its files in the order of the frames.
        worker_assignments: for every worker the paths it reads frames of, in its order; None
            before `assign_workers`. A video that is shared by workers is in the list of each.
            Lists that are set by hand are followed: a worker then reads these videos whole.
        n_frames_lookup: number of frames of every path; None before `assign_workers`.

    Raises:
        ValueError: when a path is no file (no folder), a name has not exactly one number, or
            `channels`, `dtype` or `on_error` is none of the above.
        FrameReadError: a RuntimeError, while frames are counted or read, unless `on_error` is
            "warn"; also when there are paths and not a single frame of them can be read.
    """

    # Defaults for subclasses that do not call `__init__`.
    worker_assignments: list[list[Path]] | None = None
    n_frames_lookup: dict[Path, int] | None = None
    channels: str = "rgb"
    dtype: str = "float32"
    on_error: OnError = "raise"
    split_videos: bool = False
    _videos: Videos = Videos()
    _worker_ranges: Sequence[list[FrameRange]] = ()
    # The process of the worker that the dataset was made in; None for any other process.
    _made_in_worker: int | None = None

    def __init__(
        self,
        paths: Sequence[Path | str],
        as_image_dirs: bool = False,
        frame_sorting: str | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        channels: Literal["rgb", "gray"] = "rgb",
        dtype: Literal["float32", "uint8"] = "float32",
        on_error: OnError = "raise",
        split_videos: bool = False,
    ):
        if isinstance(paths, str | bytes | os.PathLike):
            raise ValueError(f"paths must be a list of paths, got one path: {paths!r}; write [it]")
        if channels not in ("rgb", "gray") or (as_image_dirs and channels != "rgb"):
            raise ValueError(f"channels must be 'rgb', or 'gray' for video files, got {channels!r}")
        if dtype not in ("float32", "uint8"):
            raise ValueError(f"dtype must be 'float32' or 'uint8', got {dtype!r}")
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error must be 'raise' or 'warn', got {on_error!r}")
        self.channels, self.dtype = channels, dtype
        self.on_error, self.split_videos = on_error, split_videos
        self.video_paths = [Path(os.fsdecode(path)) for path in paths]
        self.as_image_dirs = as_image_dirs
        self.frame_sorting = frame_sorting
        self.transform = transform
        self.worker_assignments = None
        self.n_frames_lookup = None
        self.frame_sortings: dict[Path, list[Path]] = {}
        self._videos = Videos()
        self._worker_ranges = []
        if get_worker_info() is not None:
            self._made_in_worker = os.getpid()
        for path in self.video_paths:
            if as_image_dirs and not path.is_dir():
                raise ValueError(
                    f"{path} is not a valid directory; folders of images are expected{_hint(path)}"
                )
            if not as_image_dirs and not path.is_file():
                raise ValueError(
                    f"{path} is not a valid file; video files are expected{_hint(path)}"
                )
        if as_image_dirs:
            for path in self.video_paths:
                self.frame_sortings[path] = sorted_images(path, frame_sorting)

    def assign_workers(
        self, n_frame_loading_workers: int, n_metadata_indexing_workers: int = -1
    ) -> None:
        """Count the frames and share them among workers.

        Videos go to workers whole, longest first. With `split_videos`, and where whole videos
        would not balance the workers, videos are cut at keyframes.

        Args:
            n_frame_loading_workers: number of workers; 0 is one, -1 all cores.
            n_metadata_indexing_workers: threads that read frame indexes; -1 is all cores.

        Raises:
            FrameReadError: a RuntimeError that names all files that cannot be read, unless
                `on_error` is "warn".
        """
        n_workers = count_workers(n_frame_loading_workers)
        paths = list(dict.fromkeys(self.video_paths))
        if self.as_image_dirs:
            self.n_frames_lookup = {path: len(self.frame_sortings[path]) for path in paths}
        else:
            self._read_indexes(paths, count_workers(n_metadata_indexing_workers))
            indexes = self._videos.indexes
            self.n_frames_lookup = {
                path: indexes[path].n_frames if path in indexes else 0 for path in paths
            }
        self._worker_ranges = self._balanced(n_workers)
        self.worker_assignments = _paths_of(self._worker_ranges)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        ranges = self._own_ranges()
        is_empty = True
        for item in self._items(ranges):
            is_empty = False
            yield item
        if is_empty and self.video_paths and ranges == self._all_ranges():
            raise no_frame_error(self)

    def _items(self, ranges: Sequence[FrameRange]) -> Iterator[dict[str, Any]]:
        """The frames of ranges as the dataset yields them."""
        for frame in self._frames(ranges):
            pixels = frame.pixels()
            if self.dtype == "float32":
                floats = np.empty(pixels.shape, np.float32)
                to_float(pixels, floats)
                tensor = torch.from_numpy(floats)
            else:
                tensor = torch.from_numpy(pixels).permute(2, 0, 1)
            yield {
                "frame": self.transform(tensor) if self.transform else tensor,
                "video_path": frame.path,
                "frame_idx": frame.number,
            }

    def __len__(self) -> int:
        """Number of frames of all videos.

        Raises:
            ValueError: before `assign_workers`.
        """
        if self.n_frames_lookup is None:
            raise UnknownLengthError(
                "VideoCollectionDataset length is unknown until workers are assigned."
                " Call `assign_workers()` before using `len()`."
            )
        return sum(self.n_frames_lookup.values())

    @staticmethod
    def _extract_frame_number(filename: str, pattern: str) -> int:
        return frame_number(filename, pattern)

    def _frames(self, ranges: Sequence[FrameRange]) -> Iterator[Frame]:
        videos = replace(self._videos, folders=self.frame_sortings)
        return decode_ranges(ranges, videos, self.channels, self.dtype == "float32", self.on_error)

    def _all_ranges(self) -> list[FrameRange]:
        n_frames = self.n_frames_lookup or {}
        return whole_videos(path for path in self.video_paths if n_frames.get(path, 1))

    def _own_ranges(self) -> list[FrameRange]:
        """The ranges that this process must read: all, or its share as a worker."""
        worker = get_worker_info()
        if (
            worker is None
            or self._made_in_worker == os.getpid()
            or not isinstance(worker.dataset, IterableDataset)  # one worker alone reads each item
            or _has_sharding_filter(worker.dataset)
        ):
            return self._all_ranges()
        if worker.num_workers == 1 and not self._is_assigned_by_hand():
            return self._all_ranges()
        assignments = self.worker_assignments
        n_assigned = 0 if assignments is None else len(assignments)
        is_direct = _is_read_by_all_workers(self, worker.dataset)
        if worker.num_workers != n_assigned and not is_direct:
            n_workers = worker.num_workers
            assigned = f"assigned to {n_assigned} worker(s)" if n_assigned else "not assigned"
            raise ValueError(
                f"{type(worker.dataset).__name__} reads a VideoCollectionDataset, which is"
                f" {assigned}, in {n_workers} workers: frames would be lost or repeated."
                f" If every worker iterates the dataset, call `assign_workers({n_workers})`"
                " first. If frames or datasets are shared among the workers in another way, make"
                " the dataset in the worker, which then reads all of it"
            )
        if worker.num_workers > 1 and not is_direct:
            _warn_of_share(type(worker.dataset).__name__, worker.num_workers)
        return self._shares(worker.num_workers)[worker.id]

    def _shares(self, n_workers: int) -> Sequence[list[FrameRange]]:
        """The ranges that each of so many workers reads.

        Raises:
            ValueError: before `assign_workers`, and when other numbers of lists were set by hand.
        """
        assignments = self.worker_assignments
        if assignments is None:
            raise ValueError(
                "Call `assign_workers(num_workers)` first, or use VideoCollectionDataLoader."
            )
        if self._is_assigned_by_hand():
            if len(assignments) != n_workers:
                raise ValueError(
                    f"`worker_assignments` has lists for {len(assignments)} worker(s), but"
                    f" {n_workers} read; give one list per worker, which may be empty"
                )
            return [whole_videos(paths) for paths in assignments]
        # Another loader may have had the dataset assigned to its own number of workers.
        return self._worker_ranges if len(assignments) == n_workers else self._balanced(n_workers)

    def _balanced(self, n_workers: int) -> list[list[FrameRange]]:
        n_frames = self.n_frames_lookup
        assert n_frames is not None
        return balance_ranges(n_frames, self._videos.indexes, n_workers, self.split_videos)

    def _is_assigned_by_hand(self) -> bool:
        assignments = self.worker_assignments
        return assignments is not None and assignments != _paths_of(self._worker_ranges)

    def _read_indexes(self, paths: list[Path], n_threads: int) -> None:
        def read(path: Path) -> tuple[Stamp, FrameIndex] | Exception:
            try:
                return stamp_of(path), load_index(path)
            except UnreadableVideo as error:
                return error
            except Exception as error:  # whatever a library raises is about this file only
                return UnreadableVideo(path, f"{type(error).__name__}: {error}")

        self._videos = Videos()
        errors = []
        with ThreadPoolExecutor(n_threads) as pool:
            for path, result in track(
                zip(paths, pool.map(read, paths), strict=True),
                description="Indexing videos",
                total=len(paths),
                console=Console(stderr=True),
                disable=not sys.stderr.isatty(),
            ):
                if isinstance(result, Exception):
                    errors.append(str(result))
                else:
                    self._videos.stamps[path], self._videos.indexes[path] = result
        if errors and self.on_error == "raise":
            raise FrameReadError(
                "Failed to open video file: "
                + "\n".join(errors)
                + "\nWith on_error='warn' the dataset skips such files with a warning"
            )
        for text in errors:
            logger.warning("%s; skipped", text)


# The worker process that has warned of a share.
_warned_in: int | None = None


def no_frame_error(dataset: VideoCollectionDataset) -> FrameReadError:
    """The error to raise at the end of an epoch without a frame."""
    n_paths = len(dataset.video_paths)
    if not n_paths:
        return FrameReadError("no frame was read: `paths` of the dataset is empty")
    kind = "image folder" if dataset.as_image_dirs else "video"
    return FrameReadError(
        f"no frame was read: none of the {n_paths} {kind}(s) has one that can be read, the first is"
        f" {dataset.video_paths[0]}"
    )


def _is_read_by_all_workers(dataset: IterableDataset[Any], top: object) -> bool:
    """Whether every worker that iterates `top` is known to iterate the dataset, once."""
    if isinstance(top, ChainDataset):
        return any(_is_read_by_all_workers(dataset, part) for part in top.datasets)
    return top is dataset


def _warn_of_share(reader: str, n_workers: int) -> None:
    """Warn, once in each worker, that another dataset reads a share of ours."""
    global _warned_in
    if _warned_in == os.getpid():
        return
    _warned_in = os.getpid()
    warnings.warn(
        f"{reader} reads a VideoCollectionDataset that is assigned to {n_workers} workers: each of"
        " them reads its share of the frames. That is right if every worker iterates the dataset."
        f" If {reader} shares frames or datasets among the workers itself, frames are lost: let"
        " only one of the two share. Either iterate every dataset in every worker, or make the"
        " VideoCollectionDataset in the worker, in `__iter__`, which then reads all of it",
        stacklevel=4,  # the line that iterates the dataset
    )


def _has_sharding_filter(top: IterableDataset[Any]) -> bool:
    """Whether a DataPipe leaves out, in every worker, the items of the other workers."""
    pipe_class = getattr(torch.utils.data, "IterDataPipe", None)  # deprecated: it may go
    if pipe_class is None or not isinstance(top, pipe_class):
        return False
    from torch.utils.data.graph import traverse_dps
    from torch.utils.data.graph_settings import get_all_graph_pipes

    pipes = get_all_graph_pipes(traverse_dps(top))
    return any(hasattr(pipe, "apply_sharding") for pipe in pipes)


def _hint(path: Path) -> str:
    return " (`~` is not expanded; use Path.expanduser)" if path.parts[:1] == ("~",) else ""


def _paths_of(worker_ranges: Sequence[list[FrameRange]]) -> list[list[Path]]:
    return [list(dict.fromkeys(each.path for each in ranges)) for ranges in worker_ranges]


def count_workers(asked: int) -> int:
    """-1 is all cores, -2 all but one, and so on; at least 1."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, asked if asked >= 0 else (n_cores or 1) + 1 + asked)
