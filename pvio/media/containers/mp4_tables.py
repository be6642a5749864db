"""The number of frames that the tables of an MP4 or MOV file declare, read without FFmpeg.

The boxes are those of ISO/IEC 14496-12 and of QuickTime's file format (`cmov`).
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BEGINNINGS = frozenset(
    (b"ftyp", b"styp", b"mdat", b"moov", b"moof", b"sidx", b"free", b"skip", b"wide", b"pnot")
)
# Boxes that contain the boxes needed here.
_HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"cmov")
_DEEPEST = 10
_MOST_UNPACKED = 1 << 26
# Bytes of a table that are read at a time.
_PIECE = 8 << 17
# In `trun`, which of its columns are there: each has 4 bytes per frame.
_COLUMNS = 0xF00

Box = tuple[bytes, BinaryIO, int, int]


@dataclass
class _Track:
    """A track, as its tables declare it.

    Attributes:
        n_frames: the most frames that a table declares which has no row for each.
        is_audio: whether it is an audio track.
        is_steady: whether each sample lasts one unit of time, as in PCM audio.
        ticks, scale: how long all frames last; units per second.
        edits: lengths in units of `movie_scale`, 0 for all that is left.
    """

    movie_scale: int
    n_frames: int = 0
    is_audio: bool = False
    is_steady: bool = False
    ticks: float = 0
    scale: int = 1
    edits: list[int] = field(default_factory=list)

    def n_entries(self) -> int:
        """Entries that FFmpeg makes for the track: every edit shows its frames again."""
        if self.is_audio and self.is_steady:  # FFmpeg makes one for each chunk
            return 0
        if not self.edits or not self.ticks:
            return self.n_frames
        whole = self.ticks / self.scale * self.movie_scale
        shown = sum(min(1.0, length / whole) if length else 1.0 for length in self.edits)
        return max(self.n_frames, int(self.n_frames * shown))


def declared_frame_count(path: str) -> int:
    """The most frames that a track declares; 0 for a file that is no MP4 or MOV.

    Only tables that can declare frames without a byte for each count.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(8)[4:] not in _BEGINNINGS:
            return 0
        tracks: list[_Track] = []
        movie_scale, n_in_fragments = 1, 0
        for kind, source, at, end in _boxes(file, 0, size):
            source.seek(at)
            if kind == b"mvhd":
                movie_scale = _scale(source)
            elif kind == b"trak":
                tracks.append(_Track(movie_scale))
            elif kind == b"trun":
                head = source.read(8)
                if not int.from_bytes(head[1:4], "big") & _COLUMNS:
                    n_in_fragments += int.from_bytes(head[4:8], "big")
            elif tracks:
                _note(tracks[-1], kind, source, end)
    return max([n_in_fragments, *(track.n_entries() for track in tracks)])


def composition_offsets(path: str, n_frames: int) -> Iterator[np.ndarray]:
    """The delay from decoding to showing each frame, of every track with so many frames.

    Args:
        path: an MP4 or MOV file whose tables declare no more than it can hold.
        n_frames: of the track.

    Yields:
        int64, in the track's units of time, up to a number that is the same for all frames.
    """
    with Path(path).open("rb") as file:
        for kind, source, at, end in _boxes(file, 0, os.fstat(file.fileno()).st_size):
            if kind == b"ctts":
                source.seek(at)
                runs = list(_runs(source, end))
                counts = np.concatenate([run[0] for run in runs]) if runs else np.empty(0, np.int64)
                if counts.sum() == n_frames:
                    values = np.concatenate([run[1] for run in runs])
                    yield np.repeat(
                        values.astype(np.uint32).view(np.int32).astype(np.int64), counts
                    )


def _note(track: _Track, kind: bytes, file: BinaryIO, end: int) -> None:
    """Read a box of a track, whose content begins here."""
    if kind == b"hdlr":
        track.is_audio = file.read(12)[8:] == b"soun"
    elif kind == b"mdhd":
        track.scale = _scale(file)
    elif kind == b"stsz":
        head = file.read(12)
        if any(head[4:8]):  # a common size
            track.n_frames = max(track.n_frames, int.from_bytes(head[8:12], "big"))
    elif kind in (b"stts", b"ctts"):
        n_frames, n_runs, ticks = 0, 0, 0.0
        for counts, values in _runs(file, end):
            n_frames, n_runs = n_frames + int(counts.sum()), n_runs + len(counts)
            ticks += float(counts.astype(float) @ values)
        track.n_frames = max(track.n_frames, n_frames)
        if kind == b"stts":
            track.ticks, track.is_steady = ticks, n_runs == 1 and ticks == n_frames
    elif kind == b"elst":
        track.edits = _edits(file, end)


def _boxes(file: BinaryIO, at: int, end: int, depth: int = 0) -> Iterator[Box]:
    """(type, file, begin and end of the content) of all boxes, those inside of others included."""
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size, kind, head = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1:
            size, head = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:
            size = end - at
        if size < head:
            return
        stop = min(end, at + size)
        yield kind, file, at + head, stop
        if kind in _HOLDERS and depth < _DEEPEST:
            yield from _boxes(file, at + head, stop, depth + 1)
        elif kind == b"cmvd" and depth < _DEEPEST:
            file.seek(at + head + 4)
            with_limit = zlib.decompressobj()
            try:
                unpacked = with_limit.decompress(file.read(stop - at - head - 4), _MOST_UNPACKED)
            except zlib.error:
                unpacked = b""
            yield from _boxes(io.BytesIO(unpacked), 0, len(unpacked), depth + 1)
        at = stop


def _scale(file: BinaryIO) -> int:
    """Units of time per second, of `mvhd` or `mdhd`."""
    head = file.read(24)
    at = 20 if head[:1] == b"\1" else 12
    return max(1, int.from_bytes(head[at : at + 4], "big"))


def _runs(file: BinaryIO, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of frames and their values, of `stts` or `ctts`: int64 each, a piece at a time."""
    left = 8 * int.from_bytes(file.read(8)[4:], "big")
    while left > 0:
        piece = file.read(min(left, _PIECE, max(0, end - file.tell())))
        piece = piece[: len(piece) // 8 * 8]
        if not piece:
            return
        left -= len(piece)
        pairs = np.frombuffer(piece, ">u4").reshape(-1, 2).astype(np.int64)
        yield pairs[:, 0], pairs[:, 1]


def _edits(file: BinaryIO, end: int) -> list[int]:
    """Lengths of the edits that show something, of `elst`."""
    head = file.read(8)
    row = 20 if head[:1] == b"\1" else 12
    half = (row - 4) // 2
    rows = file.read(min(row * int.from_bytes(head[4:], "big"), max(0, end - file.tell())))
    lengths = []
    for at in range(0, len(rows) - row + 1, row):
        is_empty = rows[at + half : at + 2 * half] == b"\xff" * half
        if not is_empty:
            lengths.append(int.from_bytes(rows[at : at + half], "big"))
    return lengths
