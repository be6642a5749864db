"""The packets of a video stream, in decoding order, each with its presentation time."""

from __future__ import annotations

import bisect
import io
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from pvio.media.container import open_container
from pvio.media.nal import clean_start, length_size
from pvio.media.packet_kinds import Kind
from pvio.media.packet_parsers import parser_for

DEFAULT_RATE = 25
# Enough to decode a picture, also with long reordering.
_FIRST_PACKETS = 32
# More sizes of frames than any video has that is not damaged, or hostile.
_MOST_SIZES = 64
_NO_TIME = np.iinfo(np.int64).min
_PACKET = [("pts", "<i8"), ("dts", "<i8"), ("duration", "<i8"), ("pos", "<i8"), ("size", "<i4")]
_PACKET += [(name, "?") for name in ("key", "unclean", "discard", "corrupt", "frame")]
# Raw streams have no times at all.
_RAW = ("h264", "hevc", "m4v", "mpegvideo", "obu")


class Packets(NamedTuple):
    """What is known of a stream without decoding it.

    Attributes:
        table: one row per packet that is a frame, or the first field of one: `pts`, `dts` and
            `duration` in units of the stream's time base (0 where there is none), `pos` (in the
            file, -1 where it is not known), `size` (number in `sizes`, -1 where its header does
            not tell), `key` (decoding can start here), `unclean` (but the decoder misses what is
            before), `discard` (not to be shown), `corrupt` (incomplete).
        timed: whether a picture's time tells which packet it is of.
        damage: what is wrong with the times or the number of packets, as words.
        first: the first packets of the stream.
        sizes: the sizes of frames that headers state, each with its first packet.
        n_packets: number of packets that the stated rate counts, with second fields and hidden
            frames.
    """

    table: np.ndarray
    timed: bool
    damage: str
    first: list[av.Packet]
    sizes: list[tuple[tuple[int, int], av.Packet]]
    n_packets: int


def read_packets(path: str, container: Any, stream: Any) -> Packets:
    """All packets of a stream; those that a file promises and lacks are there as well.

    Args:
        path: the file.
        container: it, just opened.
        stream: of the container.
    """
    first: list[av.Packet] = []
    sizes: dict[tuple[int, int], av.Packet] = {}
    table, damage = _demuxed(container, stream, first, sizes), ""
    form = container.format.name
    if len(table) < sum(1 for entry in stream.index_entries if not entry.is_discard):
        # What was lost has its frames all the same.
        if form == "avi":
            table = _avi_table(stream, table)
            damage = "packets that its index lists are lost"
        else:
            sizes.clear()
            table = _demuxed_beyond_end(path, stream, sizes)
            damage = "it ends before the last frames that it lists"
    n_packets, table = len(table), table[table["frame"]]
    if form in _RAW:
        n_packets = len(table)  # the rate that a raw stream states is one of frames
    stated = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    rate = rate_of_frames(stated, n_packets, table["pts"], stream.time_base)
    step = 1 / (rate * stream.time_base)
    if form in _RAW or (form == "avi" and stream.codec_context.has_b_frames):
        # AVI has decoding times only, which say nothing where frames are reordered.
        table["pts"] = [round(number * step) for number in range(len(table))]
        return Packets(table, False, damage, first, list(sizes.items()), n_packets)
    timed = not (table["pts"] == _NO_TIME).any()
    if not timed:
        table["pts"] = fill_times(table["pts"], step)
    if len(restarts := _restarts(table["dts"], step)):
        timed = False
        damage = damage or f"its times start again at packet {restarts[0]}; they are continued"
        table["pts"] = _continued(table["pts"], restarts, step)
    timed = timed and not _is_ambiguous(table["pts"])
    return Packets(table, timed, damage, first, list(sizes.items()), n_packets)


def rate_of_frames(
    stated: Fraction | int, n_packets: int, pts: np.ndarray, time_base: Fraction
) -> Fraction:
    """A stated rate, or its share where it counts packets that are no frames.

    Some containers count fields and hidden frames, others do not; times tell which it is.

    Args:
        stated: frames, or packets, per second.
        n_packets: of the stream.
        pts: of its frames; `numpy.iinfo(int64).min` where there is none.
        time_base: seconds per unit of `pts`.
    """
    known = pts[pts != _NO_TIME]
    shared = Fraction(stated) * len(pts) / max(n_packets, 1)
    if len(pts) in (0, n_packets) or len(known) < 2 or known.max() == known.min():
        return Fraction(stated)
    by_times = (len(known) - 1) / (int(known.max() - known.min()) * Fraction(time_base))
    is_shared = abs(shared - by_times) < min(abs(stated - by_times), by_times / 10)
    return shared if is_shared else Fraction(stated)


def avi_positions(stream: Any) -> dict[int, int]:
    """What an AVI file's own index says: the number of the packet at a position in the file.

    FFmpeg counts the packets that it finds to tell their times, so that behind a lost one all
    others would come too early.
    """
    entries = [entry for entry in stream.index_entries if entry.size]
    # An entry points at the chunk's header of 8 bytes, a packet at what follows it.
    return {entry.pos + 8: number for number, entry in enumerate(entries)}


def fill_times(pts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Times for packets that have none.

    Program streams give times to some packets only; of others single ones may be lost, and
    Matroska has none before 0. At a steady rate the packets without time take the free places
    between the others and behind them; in front of them as many as come before the first time.
    At an uneven rate each takes the free place next to that of the packet before.

    Args:
        pts: int64, in decoding order; `numpy.iinfo(int64).min` where there is none.
        step: between two frames.
    """
    known = np.flatnonzero(pts != _NO_TIME)
    if len(known) == 0:
        return np.array([round(number * step) for number in range(len(pts))], np.int64)
    filled = pts.copy()
    base = int(pts[known[0]])
    grid = np.round((pts[known] - base) / float(step)).astype(np.int64)
    off = np.abs(pts[known] - base - grid * float(step)).max()
    n_behind = len(pts) - int(grid.max() - grid.min()) - 1
    if off < step / 4 and n_behind >= 0 and len(np.unique(grid)) == len(grid):
        first = int(grid.min()) - min(int(known[0]), n_behind)
        places = np.setdiff1d(np.arange(first, first + len(pts)), grid)
        filled[pts == _NO_TIME] = [base + round(int(place) * step) for place in places]
        return filled
    taken = sorted(pts[known].tolist())
    for number in np.flatnonzero(pts == _NO_TIME).tolist():
        before = known[known < number]
        near = int(before[-1]) if len(before) else int(known[0])
        wanted = number - near
        for away in range(len(pts) + 1):
            options = [int(pts[near]) + round((wanted + k) * step) for k in {away, -away}]
            free = [place for place in options if _is_free(place, taken, step)]
            if free:
                filled[number] = free[0]
                bisect.insort(taken, free[0])
                break
    return filled


def _is_free(place: int, taken: list[int], step: float | Fraction) -> bool:
    at = bisect.bisect(taken, place)
    return min(abs(place - other) for other in taken[max(0, at - 1) : at + 1]) > step / 2


def _restarts(dts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Numbers of the packets at which the clock starts again, as where files were joined."""
    numbers = np.flatnonzero(dts != _NO_TIME)
    jumps = np.diff(dts[numbers]) < -10 * float(step)
    return numbers[1:][jumps]


def _continued(pts: np.ndarray, restarts: np.ndarray, step: float | Fraction) -> np.ndarray:
    """Every part starts one step behind the end of the part before."""
    parts = np.split(pts, restarts)
    result = [parts[0]]
    for part in parts[1:]:
        offset = int(result[-1].max()) + round(step) - int(part.min())
        result.append(part + offset)
    return np.concatenate(result)


def _is_ambiguous(pts: np.ndarray) -> bool:
    """Whether frames share a time and are reordered, so that their order is not known."""
    shared = len(np.unique(pts)) < len(pts)
    return shared and bool((np.diff(pts) < 0).any())


def _demuxed(
    container: Any,
    stream: Any,
    first: list[av.Packet],
    sizes: dict[tuple[int, int], av.Packet],
) -> np.ndarray:
    """One row per packet; the first packets are added to `first`, sizes of frames to `sizes`."""
    # The presentation times that FFmpeg gives to packets of AVI files are a guess, for some codecs
    # late by one frame. Where no frame is reordered they are the decoding times.
    decoding = container.format.name == "avi"
    context = stream.codec_context
    codec = context.codec.canonical_name
    size = length_size(codec, context.extradata)
    parser = parser_for(codec, context.extradata)
    rows: list[tuple[Any, ...]] = []
    seen, number = None, -1
    second_fields: list[int] = []
    for packet in container.demux(stream):
        if packet.size:
            if len(first) < _FIRST_PACKETS:
                first.append(packet)
            dts = _NO_TIME if packet.dts is None else packet.dts
            pts = dts if decoding or packet.pts is None else packet.pts
            clean = clean_start(bytes(packet), codec, size) if packet.is_keyframe else None
            key = (clean is not None, clean is False)
            pos = -1 if packet.pos is None else packet.pos
            length = packet.duration or 0
            kind = Kind.FRAME
            if parser and (packet.is_keyframe or parser.all_matter):
                kind = parser.read(packet)
            if parser and parser.size != seen:
                seen, number = parser.size, _number_of(parser.size, sizes, packet)
            is_frame = kind is not Kind.SECOND_FIELD and kind is not Kind.HIDDEN
            flags = (packet.is_discard, packet.is_corrupt, is_frame)
            rows.append((pts, dts, length, pos, number, *key, *flags))
            if kind is Kind.SECOND_FIELD:
                second_fields.append(len(rows) - 1)
    table = np.array(rows, dtype=_PACKET)
    if codec == "av1" and container.format.name not in _RAW:
        _believe_times(table)
    for number in second_fields:  # a frame lasts as long as both of its fields
        table["duration"][number - 1] += table["duration"][number]
        table["corrupt"][number - 1] |= table["corrupt"][number]
    return table


def _believe_times(table: np.ndarray) -> None:
    """Count packets as frames that have a time of their own, though they seem to show nothing.

    A temporal unit of AV1 shows a frame. Where it is split into packets, all of them have its time;
    else a header is damaged.
    """
    known = table["pts"][table["frame"] & (table["pts"] != _NO_TIME)]
    steps = np.diff(np.unique(known))
    if len(steps) == 0 or (table["pts"] == _NO_TIME).any():
        return
    near = np.abs(np.diff(table["pts"])) < np.median(steps) / 2
    table["frame"][:-1] |= ~near
    table["frame"][-1:] = True


def _number_of(
    size: tuple[int, int] | None, sizes: dict[tuple[int, int], av.Packet], packet: av.Packet
) -> int:
    """Number of a size; it and its first packet are noted."""
    if size is None or (size not in sizes and len(sizes) == _MOST_SIZES):
        return -1
    sizes.setdefault(size, packet)
    return list(sizes).index(size)


def _avi_table(stream: Any, found: np.ndarray) -> np.ndarray:
    """The packets by the file's own index; those that were not found are no keyframes."""
    table = np.zeros(sum(entry.size > 0 for entry in stream.index_entries), _PACKET)
    table["pos"] = list(avi_positions(stream))
    table["pts"] = [entry.timestamp for entry in stream.index_entries if entry.size]
    table["dts"] = table["pts"]
    table["frame"] = True
    table["size"] = -1
    by_position = {int(row["pos"]): row for row in found}
    for row in table:
        packet = by_position.get(int(row["pos"]))
        if packet is not None:
            for name in ("key", "unclean", "corrupt", "frame", "size"):
                row[name] = packet[name]
    return table


def _demuxed_beyond_end(
    path: str, stream: Any, sizes: dict[tuple[int, int], av.Packet]
) -> np.ndarray:
    """The packets of a file that is continued with zeros as far as its index reaches."""
    end = max(entry.pos + entry.size for entry in stream.index_entries)
    padded = _ZeroPadded(path, end)
    with padded, open_container(padded) as container:
        return _demuxed(container, container.streams[stream.index], [], sizes)


class _ZeroPadded(io.RawIOBase):
    """A file that reads as if zeros followed its end, up to `size` bytes."""

    def __init__(self, path: str, size: int):
        self._file, self._size, self._at = Path(path).open("rb"), size, 0  # noqa: SIM115

    def close(self) -> None:
        self._file.close()
        super().close()

    def read(self, n: int = -1) -> bytes:
        n = max(0, min(n if n >= 0 else self._size, self._size - self._at))
        self._file.seek(self._at)
        self._at += n
        return self._file.read(n).ljust(n, b"\0")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
