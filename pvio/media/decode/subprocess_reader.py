"""Reading in a sub-process, which can be ended whatever the decoder does to it."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

from pvio.errors import UnreadableVideo
from pvio.media.decoders.frame import Decoded
from pvio.media.index.frame_index import FrameIndex

Convert = Callable[[Any], Any]
# In place of a status: what comes with it is path and reason of an `UnreadableVideo`.
_FAILED = "failed"


class IsolatedFrames:
    """Frames `[start, stop)` of a video, read in a process of its own.

    Args:
        index: of a video file or an image folder.
        decoder: see `open_reader`.
        start, stop: ranks.
        convert: makes of a picture what shall come over; can be pickled.
    """

    def __init__(self, index: FrameIndex, decoder: str, start: int, stop: int, convert: Convert):
        self._n_frames = stop - start
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pvio.media.decode.subprocess_reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no frame either
            pickle.dump((index, decoder, start, stop, convert), self._process.stdin)
            self._process.stdin.flush()

    def frames(self) -> Generator[Decoded]:
        """The frames as they come; fewer when the process dies.

        Raises:
            UnreadableVideo: as reading itself.
        """
        output = self._process.stdout
        assert output is not None
        for _ in range(self._n_frames):
            try:
                rank, status, picture = pickle.load(output)
            except (EOFError, pickle.UnpicklingError):
                return
            if status == _FAILED:
                raise UnreadableVideo(*picture)
            yield Decoded(rank, status, picture)

    def kill(self) -> None:
        """End the process, whatever it is doing; `frames` ends as well."""
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    """In the sub-process: read what standard input asks for, write frames to standard output."""
    from pvio.media.decode.reader import open_reader

    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else shall get in between
    index, decoder, start, stop, convert = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for rank, status, picture in open_reader(index, decoder).frames(start, stop):
            converted = None if picture is None else convert(picture)
            pickle.dump((rank, status, converted), output, pickle.HIGHEST_PROTOCOL)
            output.flush()
    except UnreadableVideo as error:
        pickle.dump((start, _FAILED, (error.path, error.reason)), output)
        output.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # until the other end is closed
    os._exit(1)


if __name__ == "__main__":
    _serve()
