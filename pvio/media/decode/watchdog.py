"""Reading that goes on when a decoder hangs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from pvio.concurrency.prefetch import Ahead, Pulse, Stalled
from pvio.media.decode.reader import open_reader
from pvio.media.decode.subprocess_reader import Convert, IsolatedFrames
from pvio.media.decoders.frame import Decoded, Reader
from pvio.media.index.frame_index import FrameIndex

log = logging.getLogger(__name__)

Item = TypeVar("Item")
# Takes frames in order, the first of this rank; yields what it makes of them, and the next rank.
Make = Callable[[int, Iterator[Decoded]], Iterator[tuple[Item, int]]]

# Frames decoded before they are asked for. To wake a thread for every one of them costs as much as
# to copy a small one.
_DEPTH, _GROUP = 8, 4
# How often decoding is taken up again behind a place at which it hangs.
_ATTEMPTS = 3


class GuardedReader:
    """Reads in a thread. When no frame comes for too long, a sub-process is tried from there on.

    Where the sub-process hangs or dies too, the frames up to the next keyframe are given up: they
    are `missing`. After some such places so are all that are left of the segment.

    Args:
        index: of a video file or an image folder.
        decoder: see `open_reader`.
        limit: seconds to wait for a frame.
        convert: what is done with a picture before it comes over from a sub-process; takes decoded
            pictures and what it made of them itself, so that callers can apply it to all.
        isolated: whether to read in a sub-process from the start.

    Attributes:
        given_up: why frames were given up, as words; "" while none were.
        left_behind: whether a thread hangs in the decoder; it may still write where it was told to.
    """

    def __init__(
        self,
        index: FrameIndex,
        decoder: str,
        limit: float,
        convert: Convert,
        isolated: bool = False,
    ):
        self.index = index
        self.given_up = ""
        self.left_behind = False
        self._decoded_to = 0
        self._decoder, self._limit, self._convert = decoder, limit, convert
        self._cancelled = threading.Event()
        self._reader: Reader | None = None if isolated else open_reader(index, decoder)

    def frames(self, start: int, stop: int) -> Generator[Decoded]:
        """See `Reader.frames`. To be closed, or used up, before the reader is closed."""
        return self.made_of(start, stop, _as_they_come, _DEPTH, _GROUP)

    def made_of(
        self, start: int, stop: int, make: Make[Item], depth: int, group: int = 1
    ) -> Generator[Item]:
        """What is made of the frames, by the thread that decodes them.

        To be closed, or used up, before the reader is closed.

        Args:
            start, stop: ranks.
            make: what it has begun when the decoder hangs is given up; another call goes on behind
                the last item.
            depth, group: of items, see `Ahead`.
        """
        expected = start
        if self._reader is not None:
            pulse = Pulse()
            frames = self._watched(self._reader, start, stop, pulse)
            items = Ahead(
                _run(make, start, frames), depth, self._limit, self._cancelled, pulse, group
            )
            try:
                with contextlib.closing(iter(items)) as each:
                    for item, following in each:
                        yield item
                        expected = following
                return
            except Stalled:
                log.warning(
                    "%s: no frame %d within %g s; a sub-process tries again",
                    *(self.index.path, self._decoded_to, self._limit),
                )
            finally:
                if items.is_running:  # in the decoder: its reader must not be closed
                    self._reader, self.left_behind = None, True
        with contextlib.closing(self._isolated(expected, stop)) as decoded:
            for item, _ in make(expected, decoded):
                yield item

    def cancel(self) -> None:
        """Let `frames` end early, also when it waits for a frame in another thread."""
        self._cancelled.set()

    def close(self) -> None:
        """Close the reader and end the thread or child process."""
        self.cancel()
        if self._reader is not None:
            self._reader.close()

    def _isolated(self, start: int, stop: int) -> Generator[Decoded]:
        expected = start
        for attempt in range(_ATTEMPTS):
            what = "crashed"
            process = IsolatedFrames(self.index, self._decoder, expected, stop, self._convert)
            try:
                for decoded in Ahead(
                    process.frames(), _DEPTH, self._limit, self._cancelled, group=_GROUP
                ):
                    yield decoded
                    expected = decoded.rank + 1
            except Stalled:
                what = "hung"
            finally:
                process.kill()
            if expected >= stop or self._cancelled.is_set():
                return
            what = f"the decoder {what} at frame {expected}"
            self.given_up = self.given_up or what
            resume = self._keyframe_behind(expected, stop) if attempt < _ATTEMPTS - 1 else stop
            log.warning(
                "%s: %s; frames %d to %d are given up",
                *(self.index.path, what, expected, resume - 1),
            )
            for rank in range(expected, resume):
                yield Decoded(rank, "missing", None)
            expected = resume
            if expected >= stop:
                return

    def _watched(self, reader: Reader, start: int, stop: int, pulse: Pulse) -> Generator[Decoded]:
        self._decoded_to = start
        for decoded in reader.frames(start, stop):
            if self._cancelled.is_set():
                return
            pulse.beat()
            self._decoded_to = decoded.rank + 1
            yield decoded

    def _keyframe_behind(self, rank: int, stop: int) -> int:
        """Rank of the first keyframe after `rank`, at most `stop`."""
        later = self.index.keyframes[self.index.keyframes > rank]
        return min(int(later[0]), stop) if len(later) else stop


def _run(make: Make[Item], start: int, frames: Generator[Decoded]) -> Generator[tuple[Item, int]]:
    with contextlib.closing(frames):
        yield from make(start, frames)


def _as_they_come(_: int, frames: Iterator[Decoded]) -> Iterator[tuple[Decoded, int]]:
    for decoded in frames:
        yield decoded, decoded.rank + 1
