"""Reading that goes on when a decoder hangs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Iterator

from pvio.media.ahead import Ahead, Stalled
from pvio.media.decoded import Decoded, Reader
from pvio.media.index import FrameIndex
from pvio.media.isolated import Convert, IsolatedFrames
from pvio.media.read import open_reader

log = logging.getLogger(__name__)

# Frames decoded before they are asked for.
_DEPTH = 8
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
        self._decoder, self._limit, self._convert = decoder, limit, convert
        self._cancelled = threading.Event()
        self._reader: Reader | None = None if isolated else open_reader(index, decoder)

    def frames(self, start: int, stop: int) -> Generator[Decoded]:
        """See `Reader.frames`. To be closed, or used up, before the reader is closed."""
        expected = start
        if self._reader is not None:
            frames = self._ahead(_generator(self._reader, start, stop))
            try:
                with contextlib.closing(iter(frames)) as each:
                    for decoded in each:
                        yield decoded
                        expected = decoded.rank + 1
                return
            except Stalled:
                log.warning(
                    "%s: no frame %d within %g s; a sub-process tries again",
                    *(self.index.path, expected, self._limit),
                )
            finally:
                if frames.is_running:  # in the decoder: its reader must not be closed
                    self._reader = None
        yield from self._isolated(expected, stop)

    def cancel(self) -> None:
        """Let `frames` end early, also when it waits for a frame in another thread."""
        self._cancelled.set()

    def close(self) -> None:
        self.cancel()
        if self._reader is not None:
            self._reader.close()

    def _isolated(self, start: int, stop: int) -> Iterator[Decoded]:
        expected = start
        for attempt in range(_ATTEMPTS):
            what = "crashed"
            process = IsolatedFrames(self.index, self._decoder, expected, stop, self._convert)
            try:
                for decoded in self._ahead(process.frames()):
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

    def _ahead(self, frames: Generator[Decoded]) -> Ahead[Decoded]:
        return Ahead(frames, _DEPTH, self._limit, self._cancelled)

    def _keyframe_behind(self, rank: int, stop: int) -> int:
        """Rank of the first keyframe after `rank`, at most `stop`."""
        later = self.index.keyframes[self.index.keyframes > rank]
        return min(int(later[0]), stop) if len(later) else stop


def _generator(reader: Reader, start: int, stop: int) -> Generator[Decoded, None, None]:
    yield from reader.frames(start, stop)
