"""Limits of the work and memory for the index of a file: in proportion to its bytes.

A few bytes can declare any number of frames: run-length tables of MP4, fragments whose frames have
a common size, edit lists that show the same frames again, frames that share their bytes. FFmpeg
makes an entry in memory for each declared frame when it opens a file. So the tables of MP4 files
are read before it opens them, and the packets of every file are counted while they are read.
"""

from __future__ import annotations

import os
import time

from pvio.errors import UnreadableVideo
from pvio.media.containers.mp4_tables import declared_frame_count

# A frame has a byte at least; so many more may be declared by a file that was cut off.
_SPARE_FRAMES = 100_000
# How often the bytes of a file may be read; packets may be unpacked while they are read.
_MOST_READINGS = 10
_SPARE_BYTES = 1 << 26
# CPU time of this thread, which waiting for a disk does not count in; demuxing takes 1 s for 20 to
# 2000 MB.
_SPARE_SECONDS = 30
_BYTES_PER_SECOND = 1_000_000
# Packets between two looks at the clock.
_PERIOD = 256


def check_declared_frames(path: str) -> None:
    """Refuse a file that declares more frames than it can hold, before FFmpeg opens it.

    Raises:
        UnreadableVideo: when it does.
    """
    declared, size = declared_frame_count(path), os.path.getsize(path)
    if declared > size + _SPARE_FRAMES:
        what = f"it declares {declared} frames in {size} bytes; its list of frames is damaged"
        raise UnreadableVideo(path, what)


class Budget:
    """Limits of packets, bytes and CPU time for reading a file.

    Args:
        path: the file.
    """

    def __init__(self, path: str):
        self._path, self._size = path, os.path.getsize(path)
        self._n_packets = self._n_bytes = 0
        self._began = time.thread_time()

    def spend(self, n_bytes: int) -> None:
        """Count a packet of so many bytes.

        Raises:
            UnreadableVideo: when there are more packets, or more bytes in them, than the file can
                hold, or when they take much more CPU time than any file of its size.
        """
        self._n_packets += 1
        self._n_bytes += n_bytes
        if self._n_packets % _PERIOD:
            return
        size = f"the file has {self._size} bytes"
        if self._n_packets > self._size + _SPARE_FRAMES:
            self._refuse(f"it gives more than {self._n_packets} frames, but {size}")
        if self._n_bytes > _MOST_READINGS * self._size + _SPARE_BYTES:
            self._refuse(f"its frames have more than {self._n_bytes} bytes, but {size}")
        limit = _SPARE_SECONDS + self._size / _BYTES_PER_SECOND
        if time.thread_time() - self._began > limit:
            self._refuse(f"listing its frames takes more than {limit:.0f} s, but {size}")

    def _refuse(self, what: str) -> None:
        raise UnreadableVideo(self._path, f"{what}; it is damaged")
