"""Reading that continues when a decoder hangs, crashes or takes all memory."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pvio.concurrency.child_process import ChildCrashed
from pvio.concurrency.prefetch import Heartbeat, Prefetcher
from pvio.concurrency.restart import Resumable, restartable
from pvio.media.decode.reader import open_reader
from pvio.media.decode.subprocess_reader import Convert, SubprocessReader
from pvio.media.decoders.frame import USABLE_STATUSES, FrameReader, Status
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Resumable)

# Prefetched frames. Waking a thread for every frame costs as much as copying a small frame.
_DEPTH, _WAKE_EVERY = 8, 4
# How many times children may hang or crash before the rest is skipped. Each time costs at most a
# timeout, so this limits the time that a file costs.
_MAX_FAILURES = 3


class WatchedFrame(NamedTuple):
    """One frame, which is converted where it was decoded.

    Attributes:
        number: in the frame index.
        status: see `DecodedFrame`.
        pixels: decoded, or converted if `convert` is None; None for a missing frame, and for an
            unusable frame of a child.
        convert: converts the pixels for the user of the reader.
    """

    number: int
    status: Status
    pixels: Any
    convert: Convert | None

    @property
    def stop(self) -> int:
        """Number of the next frame."""
        return self.number + 1

    @property
    def is_usable(self) -> bool:
        """Whether models and viewers get the frame."""
        return self.pixels is not None and self.status in USABLE_STATUSES

    def converted(self) -> Any:
        """The pixels, converted by the reader's `convert`."""
        return self.pixels if self.convert is None else self.convert(self.pixels)

    def write_to(self, out: np.ndarray) -> None:
        """Write the pixels, converted by a `FrameConverter`.

        Args:
            out: uint8, of the converter's `output_shape`.
        """
        if self.convert is None:
            out[...] = self.pixels
        else:
            self.convert.convert_into(self.pixels, out)  # type: ignore[attr-defined]


@dataclass
class _Budget:
    """The budget of hangs and crashes of one reader.

    Attributes:
        n_failures: how many times children hung or crashed.
        skipped_reason: why frames were skipped; "" if none were.
    """

    n_failures: int = 0
    skipped_reason: str = ""


class WatchedReader:
    """Reads frames even if the decoder hangs, crashes or takes all memory.

    The decoder runs in this process first. If no frame comes within the timeout, it runs in a
    child process from there on. If the child hangs or crashes as well, the frames up to the next
    keyframe are skipped: they are `missing`. After `_MAX_FAILURES` such places the rest is skipped;
    all reads of one reader, and of those made by `for_search`, share this budget.

    A crash in this process ends it; a caller that restarts the process passes `isolated`.

    The way of frames to items that are built from them, such as batches, is
    `restartable(lambda at: reader.prefetched(build(reader.read_frames(at, stop)), depth), start,
    stop, reader.isolate)`.

    Args:
        index: of a video file or an image folder.
        decoder: see `open_reader`.
        timeout: seconds to wait for a frame.
        convert: converts the pixels of usable frames; can be pickled.
        isolated: whether to read in a child process from the start.

    Attributes:
        isolated: whether frames are now read in a child process.
    """

    def __init__(
        self,
        index: FrameIndex,
        decoder: str,
        timeout: float,
        convert: Convert,
        isolated: bool = False,
    ):
        self.index = index
        self.isolated = isolated
        self._decoder, self._timeout, self._convert = decoder, timeout, convert
        self._cancelled = threading.Event()
        self._heartbeat = Heartbeat()
        self._next = 0
        self._budget, self._most_failures = _Budget(), _MAX_FAILURES
        self._reader: FrameReader | None = None
        self._child: SubprocessReader | None = None

    @property
    def skipped_reason(self) -> str:
        """The reason why frames were skipped; "" if none were."""
        return self._budget.skipped_reason

    def for_search(self) -> WatchedReader:
        """A second reader, for the search of a usable frame around those that this one reads.

        Both share one budget. The last failure is left to this reader: a row must not be lost
        for a frame that is only shown.
        """
        reader = WatchedReader(
            self.index, self._decoder, self._timeout, self._convert, self.isolated
        )
        reader._budget, reader._most_failures = self._budget, _MAX_FAILURES - 1
        return reader

    def frames(self, start: int, stop: int) -> Generator[WatchedFrame]:
        """See `FrameReader.frames`. Close or exhaust it before closing the reader."""

        def attempt(at: int) -> Generator[WatchedFrame]:
            return self.prefetched(self.read_frames(at, stop), _DEPTH, _WAKE_EVERY)

        return restartable(attempt, start, stop, self.isolate)

    def read_frames(self, start: int, stop: int) -> Generator[WatchedFrame]:
        """Frames, from this process or the child; only the child has a timeout here.

        Raises:
            UnreadableVideo: when the file cannot be opened any more.
        """
        if self.isolated:
            return restartable(
                partial(self._frames_of_child, stop=stop),
                start,
                stop,
                partial(self._skip, stop=stop),
            )
        if self._reader is None:
            self._reader = open_reader(self.index, self._decoder)
        return self._frames_of_reader(self._reader, start, stop)

    def prefetched(
        self, items: Generator[Item], depth: int, wake_every: int = 1
    ) -> Generator[Item]:
        """Items built from `read_frames`, made in a thread, with a timeout for each frame.

        Close or exhaust it before closing the reader. A child decodes in parallel to this process,
        so its items need no thread, and are returned as they are.

        Args:
            items: call `read_frames` for them after the last `isolate`.
            depth: number of prefetched items.
            wake_every: see `Prefetcher`.

        Raises:
            StallTimeout: by the iteration, when no frame comes in time.
        """
        return items if self.isolated else self._prefetched(items, depth, wake_every)

    def isolate(self, at: int, error: Exception) -> Iterable[Any]:
        """Read in a child process from now on, after `prefetched` raised an error.

        Args:
            at: number of the frame at which the items continue.
            error: that was raised.

        Returns:
            No items: `restartable` tries again.
        """
        logger.warning(
            "%s: no frame %d within %g s; a child process tries again",
            *(self.index.path, max(at, self._next), self._timeout),
        )
        self._reader, self.isolated = None, True
        return ()

    def cancel(self) -> None:
        """Stop `frames` early, also while it waits for a frame in another thread."""
        self._cancelled.set()

    def close(self) -> None:
        """End reading; it may begin again, with the rest of the budget."""
        self.cancel()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._child is not None:
            self._child.close()
            self._child = None
        self._cancelled = threading.Event()

    def __enter__(self) -> WatchedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prefetched(self, items: Generator[Item], depth: int, wake_every: int) -> Generator[Item]:
        self._heartbeat = Heartbeat()
        prefetcher = Prefetcher(
            items, depth, self._timeout, self._cancelled, self._heartbeat, wake_every
        )
        try:
            with contextlib.closing(iter(prefetcher)) as each:
                yield from each
        finally:
            if prefetcher.is_running:  # the decoder hangs: its reader must not be closed
                self._reader, self.isolated = None, True

    def _frames_of_reader(
        self, reader: FrameReader, start: int, stop: int
    ) -> Generator[WatchedFrame]:
        cancelled, self._next = self._cancelled, start
        for number, status, pixels in reader.frames(start, stop):
            if cancelled.is_set() or self._reader is not reader:
                return
            self._heartbeat.beat()
            self._next = number + 1
            yield WatchedFrame(number, status, pixels, self._convert)

    def _frames_of_child(self, start: int, stop: int) -> Generator[WatchedFrame]:
        if self._budget.n_failures >= self._most_failures:
            for number in range(start, stop):
                yield WatchedFrame(number, "missing", None, None)
            return
        if self._child is None:
            arguments = (self.index, self._decoder, self._convert, self._timeout)
            self._child = SubprocessReader(*arguments)
        cancelled = self._cancelled
        with contextlib.closing(self._child.frames(start, stop)) as frames:
            for frame in frames:
                if cancelled.is_set():
                    return
                yield WatchedFrame(*frame, None)

    def _skip(self, at: int, error: Exception, stop: int) -> Generator[WatchedFrame]:
        self._budget.n_failures += 1
        what = "hung"
        if isinstance(error, ChildCrashed):
            what = "ran out of memory" if error.is_out_of_memory else "crashed"
        reason = f"the decoder {what} at frame {at}"
        self._budget.skipped_reason = self._budget.skipped_reason or reason
        resume = stop
        if self._budget.n_failures < self._most_failures:
            resume = min(self.index.next_keyframe(at), stop)
        logger.warning(
            "%s: %s; frames %d to %d are skipped", self.index.path, reason, at, resume - 1
        )
        for number in range(at, resume):
            yield WatchedFrame(number, "missing", None, None)
