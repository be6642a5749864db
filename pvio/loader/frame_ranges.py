"""Ranges of frames: how the frames of a collection are shared among workers, and their decoding."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np

from pvio.collection.sources import Source
from pvio.errors import PvioError, UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.decoders.frame import suspect_warning
from pvio.media.images.files import read_pixels
from pvio.media.index.cached import load_index
from pvio.media.index.content import content_digest
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter
from pvio.pipeline.planning.segments import cut_segments, lpt

logger = logging.getLogger(__name__)

SEGMENTS_PER_WORKER = 16
TO_THE_END = sys.maxsize
_BLOCK = 1 << 18  # numbers converted at a time: a MiB of float32
BALANCED = 1.05  # longest share over the mean share that is good enough


# What to do about a video, an image or a frame that cannot be read.
OnError = Literal["raise", "warn"]
_ADVICE = ". With on_error='warn' the dataset skips it with a warning"


class FrameReadError(PvioError, RuntimeError):
    """Frames of a collection cannot be read; 0.1.3 raised a RuntimeError, too."""


class MissingImageError(FrameReadError, FileNotFoundError):
    """An image of a folder is not there any more; 0.1.3 raised a FileNotFoundError."""


@dataclass(frozen=True)
class FrameRange:
    """Consecutive frames of one video, `[start, stop)`; `stop=TO_THE_END` leaves the end open."""

    path: Path
    start: int
    stop: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.stop - self.start


@dataclass(frozen=True)
class Frame:
    """One frame that can be written into an array of the caller's.

    Attributes:
        path: its video or image folder.
        number: of the frame there.
        shape: H×W×C, or C×H×W.
        dtype: uint8 or uint16.
        into: writes the pixels into an array of this shape and type.
    """

    path: Path
    number: int
    shape: tuple[int, int, int]
    dtype: np.dtype
    into: Callable[[np.ndarray], None]

    def pixels(self) -> np.ndarray:
        """The frame in an array of its own."""
        pixels = np.empty(self.shape, self.dtype)
        self.into(pixels)
        return pixels


# Size, modification time, status change time and inode number of a file.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Videos:
    """Properties of the videos of a collection, known before their frames are read.

    Attributes:
        indexes: frame indexes of video files; those of other files are read when needed.
        stamps: of the files when their indexes were read.
        folders: for every image folder its files in the order of the frames.
    """

    indexes: dict[Path, FrameIndex] = field(default_factory=dict)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    folders: Mapping[Path, Sequence[Path]] = field(default_factory=dict)

    def check_unchanged(self, path: Path) -> None:
        """Check that a video file is the one whose index is known.

        A file that was only touched, moved or copied has another stamp and the same content.

        Raises:
            UnreadableVideo: when its content is another.
        """
        index, stamp = self.indexes.get(path), stamp_of(path)
        if index is None or self.stamps.get(path) == stamp:
            return
        if content_digest(Source(os.fspath(path), "")) != index.content_digest:
            raise UnreadableVideo(
                path, "the file has changed since its frames were counted; make the dataset again"
            )
        self.stamps[path] = stamp


def stamp_of(path: Path) -> Stamp:
    """A value that changes when a file is replaced.

    Raises:
        UnreadableVideo: when there is no file.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise UnreadableVideo(path, f"the file cannot be read ({error.strerror})") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def to_float(pixels: np.ndarray, out: np.ndarray) -> None:
    """Write `pixels` (uint8 or uint16) over their largest value into `out` (float32).

    NumPy and not PyTorch: on cores that workers keep busy, the threads of PyTorch's own
    conversion wait for one another far longer than the conversion takes.
    """
    largest = np.float32(np.iinfo(pixels.dtype).max)
    if not (pixels.flags.c_contiguous and out.flags.c_contiguous):
        np.divide(pixels, largest, out=out, dtype=np.float32)
        return
    source, target = pixels.reshape(-1), out.reshape(-1)
    for first in range(0, len(source), _BLOCK):
        # The second pass finds the first one's result in cache.
        block = target[first : first + _BLOCK]
        np.copyto(block, source[first : first + _BLOCK])
        np.divide(block, largest, out=block)


def whole_videos(paths: Iterable[Path]) -> list[FrameRange]:
    """All frames of the videos, each video once."""
    return [FrameRange(path, 0, TO_THE_END) for path in dict.fromkeys(map(Path, paths))]


def balance_ranges(
    n_frames: Mapping[Path, int],
    indexes: Mapping[Path, FrameIndex],
    n_workers: int,
    split_videos: bool = False,
) -> list[list[FrameRange]]:
    """Share the frames of a collection among workers.

    Whole videos go to the workers, longest first (LPT). With `split_videos` the first of these
    that is balanced is taken, or the best of them: whole videos; the collection cut at keyframes
    into one stretch per worker, which cuts few videos; segments, longest first.

    Args:
        n_frames: frames of every video or image folder; those without a frame are left out.
        indexes: of the video files; other paths are image folders.
        n_workers: number of workers, at least 1.
        split_videos: whether several workers may read parts of one video.

    Returns:
        The ranges of each worker in the order of the collection; adjacent ranges are merged.
    """
    videos = {
        each: _cost(each, indexes)
        for each in (FrameRange(path, 0, n) for path, n in n_frames.items() if n)
    }
    best = lpt(videos, n_workers)
    mean = sum(videos.values()) / n_workers
    if split_videos and _longest(best, indexes) > BALANCED * mean:
        segments = _cut(videos, indexes, mean / SEGMENTS_PER_WORKER)
        for shares in (_stretches(segments, n_workers), lpt(segments, n_workers)):
            if _longest(shares, indexes) < _longest(best, indexes):
                best = shares
            if _longest(best, indexes) <= BALANCED * mean:
                break
    order = {path: i for i, path in enumerate(n_frames)}
    return [
        _merged(sorted(share, key=lambda each: (order[each.path], each.start))) for share in best
    ]


def decode_ranges(
    ranges: Iterable[FrameRange],
    videos: Videos,
    channels: str = "rgb",
    planar: bool = False,
    on_error: OnError = "raise",
) -> Iterator[Frame]:
    """The frames of the ranges in order.

    Suspect frames are given, with one warning per video.

    Args:
        ranges: what to read.
        videos: what is known of them.
        channels: of video files: "rgb" or "gray".
        planar: whether frames are C×H×W instead of H×W×C.
        on_error: "raise", or "warn" to skip with a warning what cannot be read: a frame, an image,
            or the rest of a video.

    Raises:
        FrameReadError: when a video is unreadable or has changed, or a frame is damaged.
        MissingImageError: when an image is not there any more.
    """
    for path, of_video in groupby(ranges, attrgetter("path")):
        bad = _BadFrames(path)
        try:
            for frame_range in of_video:
                yield from _frames_of(frame_range, videos, channels, planar, bad, on_error)
        finally:
            bad.report()


def _frames_of(
    frame_range: FrameRange,
    videos: Videos,
    channels: str,
    planar: bool,
    bad: _BadFrames,
    on_error: OnError,
) -> Iterator[Frame]:
    try:
        if frame_range.path in videos.folders:
            yield from _images(frame_range, videos.folders[frame_range.path], planar, on_error)
        else:
            videos.check_unchanged(frame_range.path)
            index = videos.indexes.get(frame_range.path) or load_index(frame_range.path)
            yield from _decoded_frames(frame_range, index, channels, planar, bad, on_error)
    except FrameReadError:
        raise
    except Exception as error:  # whatever a library raises costs this video only
        if on_error == "raise":
            raise FrameReadError(_reason(frame_range.path, error) + _ADVICE) from error
        logger.warning("%s; not read to its end", _reason(frame_range.path, error))
    finally:
        bad.report_lost()


def _decoded_frames(
    frame_range: FrameRange,
    index: FrameIndex,
    channels: str,
    planar: bool,
    bad: _BadFrames,
    on_error: OnError,
) -> Iterator[Frame]:
    shape = (channels, index.height, index.width, index.orientation)
    converter = FrameConverter(*shape, planar=planar)
    dtype = np.dtype(np.uint8)
    reader = open_reader(index)
    try:
        for decoded in reader.frames(frame_range.start, min(frame_range.stop, index.n_frames)):
            if decoded.pixels is None or decoded.status in ("missing", "corrupt"):
                if on_error == "raise":
                    raise FrameReadError(
                        f"{frame_range.path}: frame {decoded.number} is damaged"
                        f" ({decoded.status}){_ADVICE}"
                    )
                bad.add_lost(decoded.number)
                continue
            bad.n_suspect += decoded.status == "suspect"
            into = partial(converter.convert_into, decoded.pixels)
            yield Frame(frame_range.path, decoded.number, converter.output_shape, dtype, into)
    finally:
        reader.close()


def _images(
    frame_range: FrameRange, files: Sequence[Path], planar: bool, on_error: OnError
) -> Iterator[Frame]:
    for number in range(frame_range.start, min(frame_range.stop, len(files))):
        try:
            pixels = read_pixels(files[number])
        except Exception as error:  # whatever a library raises costs this image only
            reason = _reason(files[number], error)
            if on_error == "raise":
                if not files[number].exists():
                    raise MissingImageError(f"{files[number]}: no such image{_ADVICE}") from error
                raise FrameReadError(reason + _ADVICE) from error
            logger.warning("%s: frame %d is skipped: %s", frame_range.path, number, reason)
            continue
        if planar:
            pixels = pixels.transpose(2, 0, 1)
        first, second, third = pixels.shape
        into = partial(_copy, pixels)
        yield Frame(frame_range.path, number, (first, second, third), pixels.dtype, into)


def _reason(path: Path, error: Exception) -> str:
    """The message of a library, after the path."""
    if isinstance(error, UnreadableVideo):
        return str(error)
    return f"{path}: {type(error).__name__}: {error}"


def _copy(pixels: np.ndarray, out: np.ndarray) -> None:
    out[...] = pixels


class _BadFrames:
    """Collects damaged frames, so that a damaged stretch is one warning and not thousands.

    Attributes:
        n_suspect: frames given so far that are suspect.
    """

    def __init__(self, path: Path):
        self._path = path
        self._first = self._last = -1
        self.n_suspect = 0

    def add_lost(self, number: int) -> None:
        if self._first >= 0 and number == self._last + 1:
            self._last = number
            return
        self.report_lost()
        self._first = self._last = number

    def report_lost(self) -> None:
        if self._first < 0:
            return
        one = self._first == self._last
        frames = f"frame {self._first} is" if one else f"frames {self._first} to {self._last} are"
        logger.warning("%s: %s damaged and skipped", self._path, frames)
        self._first = -1

    def report(self) -> None:
        self.report_lost()
        if self.n_suspect:
            logger.warning(suspect_warning(self.n_suspect, self._path))


def _cost(frame_range: FrameRange, indexes: Mapping[Path, FrameIndex]) -> float:
    """Work of a range in pixels; images are taken to be of one size."""
    index = indexes.get(frame_range.path)
    return frame_range.n_frames * (index.height * index.width if index else 1)


def _cut(
    videos: Mapping[FrameRange, float], indexes: Mapping[Path, FrameIndex], cost: float
) -> dict[FrameRange, float]:
    """The videos in segments of about `cost`, cut at keyframes, in the order given."""
    segments: list[FrameRange] = []
    for video, video_cost in videos.items():
        length = max(1, round(cost / video_cost * video.n_frames))
        index = indexes.get(video.path)
        if index is None:
            bounds = [*range(0, video.n_frames, length), video.n_frames]
        else:
            bounds = [0, *(segment.stop for segment in cut_segments(index, length))]
        segments += [FrameRange(video.path, start, stop) for start, stop in pairwise(bounds)]
    return {segment: _cost(segment, indexes) for segment in segments}


def _stretches(segments: Mapping[FrameRange, float], n_workers: int) -> list[list[FrameRange]]:
    """One stretch of the collection per worker: a segment belongs to the stretch of its middle."""
    share = sum(segments.values()) / n_workers
    stretches: list[list[FrameRange]] = [[] for _ in range(n_workers)]
    done = 0.0
    for segment, cost in segments.items():
        stretches[min(n_workers - 1, int((done + cost / 2) / share))].append(segment)
        done += cost
    return stretches


def _longest(shares: Sequence[Sequence[FrameRange]], indexes: Mapping[Path, FrameIndex]) -> float:
    return max(sum(_cost(each, indexes) for each in share) for share in shares)


def _merged(ranges: Iterable[FrameRange]) -> list[FrameRange]:
    merged: list[FrameRange] = []
    for each in ranges:
        if merged and merged[-1].path == each.path and merged[-1].stop == each.start:
            merged[-1] = FrameRange(each.path, merged[-1].start, each.stop)
        else:
            merged.append(each)
    return merged
