"""Exact reading: the frames of a segment, in order, each checked against the frame index."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import av
import numpy as np

from pvio.collection import image_files
from pvio.errors import UnreadableVideo
from pvio.media.images import read_image
from pvio.media.index import FrameIndex
from pvio.media.picture import Converter

log = logging.getLogger(__name__)

Status = Literal["ok", "suspect", "corrupt", "missing"]


class Decoded(NamedTuple):
    """One frame as it came out of the decoder.

    Attributes:
        rank: frame number, the rank in the frame index.
        status: `ok`; `suspect`: the decoder complained earlier in this GOP; `corrupt`: the
            decoder flagged the picture; `missing`: no picture came.
        picture: the coded picture (`av.VideoFrame`) or an upright RGB array; None when missing.
    """

    rank: int
    status: Status
    picture: av.VideoFrame | np.ndarray | None


class Reader(Protocol):
    """Reads the frames of one video."""

    index: FrameIndex

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """Frames `start` to `stop - 1`, each exactly once, in order."""

    def close(self) -> None: ...


def open_reader(index: FrameIndex, decoder: str = "pyav") -> Reader:
    """A reader for the video of the index.

    Args:
        index: of a video file or an image folder.
        decoder: "pyav" or "torchcodec" (files only; RGB arrays).

    Raises:
        UnreadableVideo: when the file cannot be opened any more.
    """
    if index.is_image_folder:
        return ImageFolderReader(index)
    if decoder == "torchcodec" and index.timed:
        from pvio.media.torchcodec_reader import TorchcodecReader

        reader = TorchcodecReader(index)
        if reader.agrees():
            return reader
        log.warning("%s: torchcodec counts other frames; PyAV decodes this file", index.path)
    return PyAVReader(index)


class PyAVReader:
    """Decodes with FFmpeg through PyAV, one thread.

    Args:
        index: of a video file.
    """

    def __init__(self, index: FrameIndex):
        self.index = index
        self._container: Any = None

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """See `Reader.frames`."""
        expected = start
        trusted = True
        before: tuple[int, int | None] = (-1, None)
        for frame, complained in self._pictures_from(start):
            if frame is None or (frame.pts is None and self.index.timed):
                trusted = False
                continue
            if frame.key_frame and self.index.timed:
                trusted = True
            trusted = trusted and not complained
            rank = self._rank(frame, before)
            if rank is None:
                trusted = False
                continue
            before = (rank, frame.pts)
            if rank < expected:
                continue
            while expected < min(rank, stop):
                yield Decoded(expected, "missing", None)
                expected += 1
            if rank >= stop:
                break
            yield Decoded(rank, self._judge(frame, trusted), frame)
            expected = rank + 1
            if expected == stop:
                break
        for rank in range(expected, stop):
            yield Decoded(rank, "missing", None)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rank(self, frame: av.VideoFrame, before: tuple[int, int | None]) -> int | None:
        """Rank of a picture, given rank and pts of the one before; None when it has none."""
        if not self.index.timed:
            return before[0] + 1 if before[0] + 1 < self.index.n_frames else None
        keyframes, shown = self.index.keyframes, frame.pts or 0
        first, last = (int(np.searchsorted(self.index.pts, shown, s)) for s in ("left", "right"))
        rank = first
        if frame.pts == before[1]:
            rank = before[0] + 1  # time stamps may repeat
        elif before[1] is None:
            # Decoding starts at a keyframe, which may not be the first frame of its time.
            near = np.searchsorted(keyframes, first)
            rank = (
                int(keyframes[near]) if near < len(keyframes) and keyframes[near] < last else rank
            )
        return rank if rank < last else None

    def _judge(self, frame: av.VideoFrame, trusted: bool) -> Status:
        size = self.index.orientation.upright_size(frame.height, frame.width)
        if frame.is_corrupt or size != (self.index.height, self.index.width):
            return "corrupt"
        return "ok" if trusted else "suspect"

    def _pictures_from(self, start: int) -> Iterator[tuple[av.VideoFrame | None, bool]]:
        """Pictures from a keyframe at or before `start` on; None marks a decoder's complaint."""
        wanted = self.index.pts[start]
        keyframe = self.index.keyframe_before(start)
        while True:
            pictures = self._decode_from(keyframe)
            first = next(pictures, None)
            if keyframe == 0 or (first and first[0] and (first[0].pts or 0) <= wanted):
                break
            # The container's seek landed behind the frame: start further ahead of it.
            keyframe = self.index.keyframe_before(keyframe - 1)
        if first is not None:
            yield first
            yield from pictures

    def _decode_from(self, keyframe: int) -> Iterator[tuple[av.VideoFrame | None, bool]]:
        stream = self._seek(keyframe)
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # reading failed: nothing comes any more
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                yield None, True
                continue
            for frame in frames:
                yield frame, False

    def _seek(self, keyframe: int) -> Any:
        if keyframe == 0:
            self.close()
        try:
            if self._container is None:
                self._container = av.open(self.index.path)
                self._container.streams[self.index.stream_index].codec_context.thread_count = 1
            stream = self._container.streams[self.index.stream_index]
            if keyframe > 0:
                self._container.seek(int(self.index.pts[keyframe]), stream=stream)
            return stream
        except (OSError, IndexError) as error:
            raise UnreadableVideo(self.index.path, f"it could be read before: {error}") from error


class ImageFolderReader:
    """Reads a folder of images, sorted by name.

    Args:
        index: of an image folder.
        files: the images in the order of the frames, when it is not that of their names.
    """

    def __init__(self, index: FrameIndex, files: list[str] | None = None):
        self.index = index
        self._files = files if files is not None else image_files(index.path)

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """See `Reader.frames`; an image of another size than the first is `corrupt`."""
        for rank in range(start, stop):
            try:
                frame = read_image(self._files[rank])
            except (UnreadableVideo, IndexError):
                yield Decoded(rank, "missing", None)
                continue
            same = (frame.height, frame.width) == (self.index.height, self.index.width)
            yield Decoded(rank, "ok" if same else "corrupt", frame)

    def close(self) -> None:
        pass


def read_ranks(reader: Reader, ranks: Iterable[int]) -> Iterator[Decoded]:
    """The frames of ascending, distinct ranks; decodes on where that is shorter than a seek."""
    pending = list(ranks)
    while pending:
        # One run of decoding covers all ranks up to the first one behind a later keyframe.
        run = [pending[0]]
        for rank in pending[1:]:
            if reader.index.keyframe_before(rank) > run[-1]:
                break
            run.append(rank)
        pending = pending[len(run) :]
        wanted = set(run)
        for decoded in reader.frames(run[0], run[-1] + 1):
            if decoded.rank in wanted:
                yield decoded


def sample_ranks(index: FrameIndex, n: int) -> list[int]:
    """Up to `n` ranks spread evenly over a video, at keyframes where there are enough of them."""
    if index.n_frames <= n:
        return list(range(index.n_frames))
    candidates = index.keyframes if len(index.keyframes) >= n else np.arange(index.n_frames)
    chosen = np.linspace(0, len(candidates) - 1, n).round().astype(int)
    return [int(rank) for rank in candidates[chosen]]


def sample_pictures(reader: Reader, converter: Converter, n: int) -> np.ndarray:
    """Up to `n` pictures spread over the video: uint8, N×H×W×C; damaged frames are left out."""
    pictures = []
    for decoded in read_ranks(reader, sample_ranks(reader.index, n)):
        if decoded.picture is not None and decoded.status in ("ok", "suspect"):
            out = np.empty(converter.shape, np.uint8)
            converter.into(decoded.picture, out)
            pictures.append(out)
    return np.stack(pictures) if pictures else np.empty((0, *converter.shape), np.uint8)
