"""A reader in a child process, which can be killed when the decoder hangs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any

from pvio.concurrency.child_process import ChildProcess
from pvio.media.decode.reader import open_reader
from pvio.media.decoders.frame import DecodedFrame
from pvio.media.index.frame_index import FrameIndex

Convert = Callable[[Any], Any]


class SubprocessReader:
    """Reads frames in a child process, which converts them. Use it in one thread.

    Args:
        index: of a video file or an image folder.
        decoder: see `open_reader`.
        convert: converts the pixels of a usable frame before they are sent; can be pickled.
        timeout: seconds to wait for a frame.
    """

    def __init__(self, index: FrameIndex, decoder: str, convert: Convert, timeout: float):
        self.index = index
        self._timeout = timeout
        self._arguments = (index, decoder, convert)
        self._child: ChildProcess | None = None

    def frames(self, start: int, stop: int) -> Generator[DecodedFrame]:
        """See `FrameReader.frames`; `pixels` are converted, and None for unusable frames.

        Raises:
            StallTimeout: when no frame comes in time.
            ChildCrashed: when the child crashes, or runs out of memory.
            UnreadableVideo: as reading itself.
        """
        if self._child is None:
            # The memory limit would include memory that a CUDA device maps.
            memory = not self._arguments[1].startswith("cuda")
            self._child = ChildProcess(_serve, *self._arguments, memory=memory)
        self._child.send((start, stop))
        is_complete = False
        try:
            for _ in range(start, stop):
                yield DecodedFrame(*self._child.receive(self._timeout))
            is_complete = True
        finally:
            if not is_complete:
                self.close()

    def close(self) -> None:
        """Stop the child."""
        if self._child is not None:
            self._child.stop()
            self._child = None


def _serve(connection: Connection, index: FrameIndex, decoder: str, convert: Convert) -> None:
    """In the child: read the frames that the parent requests."""
    reader = open_reader(index, decoder)
    while True:
        start, stop = connection.recv()
        for frame in reader.frames(start, stop):
            pixels = convert(frame.pixels) if frame.is_usable else None
            connection.send((frame.number, frame.status, pixels))
