"""The packets of a video stream, in decoding order, each with its presentation time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import av
import numpy as np

from pvio.concurrency.timeout import Stalled, within
from pvio.media.bitstream.nal.units import random_access, length_size
from pvio.media.bitstream.packet_kinds import PacketKind
from pvio.media.containers.limits import Budget
from pvio.media.containers.lost_packets import add_lost_packets
from pvio.media.ffmpeg.demux import demux
from pvio.media.index.packet_times import (
    NO_TIME,
    join_clocks,
    distinct_times,
    interpolate_missing_pts,
    find_restarts,
    is_ambiguous,
    frame_rate,
    nominal_rate,
)
from pvio.media.index.parsers import parser_for
from pvio.media.timing.frame_order import Steps, decodes_out_of_order, times_contradict
from pvio.media.timing.rates import (
    is_believable,
    is_counting,
    is_raw,
    is_untimed,
    rate_of_times,
    stated_rate,
)
from pvio.media.timing.vop_times import vop_times

# Enough to decode a picture, also with long reordering.
_FIRST_PACKETS = 32
# More sizes of frames than any video has that is not damaged, or hostile.
_MOST_SIZES = 64
_PACKET = [("pts", "<i8"), ("dts", "<i8"), ("duration", "<i8"), ("pos", "<i8"), ("size", "<i4")]
_PACKET += [(name, "?") for name in ("key", "unclean", "discard", "corrupt", "frame")]
# Whether it is shown before (-1) or after (1) the packet before it, by its header; 0: not known.
_PACKET += [("step", "i1")]
# Codecs with hidden frames.
_HIDING = ("vp8", "vp9", "av1")
# Seconds to wait for a decoder.
_PATIENCE = 120.0
# Packets that are held as Python objects at a time.
_PIECE = 4096


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
        rate: frames per second, where times are made up from it; else None.
        warning: what is to know of these times, as words.
        sizes: the sizes of frames that headers state, each with its first packet.
    """

    table: np.ndarray
    timed: bool
    damage: str
    first: list[av.Packet]
    rate: Fraction | None = None
    warning: str = ""
    sizes: Sequence[tuple[tuple[int, int], av.Packet]] = ()


def read_packets(path: str, container: Any, stream: Any) -> Packets:
    """All packets of a stream; those that a file promises and lacks are there as well.

    Args:
        path: the file.
        container: it, just opened.
        stream: of the container.
    """
    first: list[av.Packet] = []
    sizes: dict[tuple[int, int], av.Packet] = {}
    table, damage = _demuxed(path, container, stream, first, sizes), ""
    form = container.format.name
    n_listed = sum(1 for entry in stream.index_entries if not entry.is_discard)
    if len(table) < n_listed and form == "avi":
        # What was lost has its frames all the same.
        table = _avi_table(stream, table)
        damage = "packets that its index lists are lost"
    elif len(table) < len(stream.index_entries) and form.startswith("mov,"):
        table, is_short = add_lost_packets(path, stream, table)
        damage = "it ends before the last frames that it lists" if is_short else ""
    if stream.codec_context.codec.canonical_name in _HIDING and not is_raw(form):
        _believe_times(table, must_rise=is_counting(form) or form == "ivf")
    n_packets, table = len(table), table[table["frame"]]
    if (made_up := _without_times(path, container, stream, table)) is not None:
        return made_up._replace(damage=damage, first=first, sizes=list(sizes.items()))
    rate = frame_rate(nominal_rate(stream), n_packets, table["pts"], stream.time_base)
    step = 1 / (rate * stream.time_base)
    timed = not (table["pts"] == NO_TIME).any()
    if not timed:
        table["pts"] = interpolate_missing_pts(table["pts"], step)
    if len(restarts := find_restarts(table["dts"], step)):
        timed = False
        damage = damage or f"its times start again at packet {restarts[0]}; they are continued"
        table["pts"] = join_clocks(table["pts"], restarts, step)
    timed = timed and not is_ambiguous(table["pts"])
    if _are_of_decoding(path, stream, table):
        timed, table["pts"] = False, distinct_times(table["pts"], table["dts"], step)
    return Packets(table, timed, damage, first, sizes=list(sizes.items()))


def _without_times(path: str, container: Any, stream: Any, table: np.ndarray) -> Packets | None:
    """The packets with times made up from a rate; None where the container has times of its own."""
    form, unit = container.format.name, Fraction(stream.time_base)
    raw, nothing_timed = is_raw(form), bool((table["pts"] == NO_TIME).all())
    # AVI has decoding times only, which say nothing where frames are reordered.
    reorders = form == "avi" and bool(stream.codec_context.has_b_frames)
    stated = stream.average_rate or stream.guessed_rate
    counts_wrongly = is_counting(form) and bool(stated) and not is_believable(stated)
    if not (raw or nothing_timed or reorders or counts_wrongly):
        return None
    if form == "m4v" and (times := vop_times(path, stream.index)) and len(times) == len(table):
        rate = rate_of_times(times)
        if is_believable(rate):
            table["pts"] = [round((time - min(times)) / unit) for time in times]
            return Packets(table, False, "", [], rate)
    rate, warning = stated_rate(stream, own=raw or nothing_timed)
    if len(table) < 2:
        warning = ""
    if is_counting(form) and not (table["pts"] == NO_TIME).any():
        # Numbers of frames, dropped ones included: those of the decoding order are as good.
        if not counts_wrongly:
            return Packets(table, False, "", [])
        pts = [round(int(number) * stated / rate) for number in table["pts"]]
    else:
        pts = [round(number / (rate * unit)) for number in range(len(table))]
    # Of images and the like the demuxer makes up the same times.
    timed = raw and not is_untimed(form) and pts == table["pts"].tolist()
    table["pts"] = pts
    return Packets(table, timed, "", [], rate, warning)


def _are_of_decoding(path: str, stream: Any, table: np.ndarray) -> bool:
    """Whether the times are not those at which the frames are shown, see `picture_order`."""
    reorders = bool(stream.codec_context.has_b_frames)
    if table["step"].any():
        columns = (table["pts"], table["step"], table["key"])
        return times_contradict(*columns, NO_TIME, reorders)
    if not reorders or len(table) < 2 or (np.diff(table["pts"]) <= 0).any():
        return False
    with contextlib.suppress(Stalled):  # the first picture is waited for as well, and tells it
        return within(_PATIENCE, partial(decodes_out_of_order, path, stream.index))
    return False


def avi_positions(stream: Any) -> dict[int, int]:
    """What an AVI file's own index says: the number of the packet at a position in the file.

    FFmpeg counts the packets that it finds to tell their times, so that behind a lost one all
    others would come too early.
    """
    entries = [entry for entry in stream.index_entries if entry.size]
    # An entry points at the chunk's header of 8 bytes, a packet at what follows it.
    return {entry.pos + 8: number for number, entry in enumerate(entries)}


def _demuxed(
    path: str,
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
    budget, parser = Budget(path), parser_for(codec, context.extradata)
    steps = Steps(context, parser)
    frames = (PacketKind.FRAME, PacketKind.REPEATED)
    rows: list[tuple[Any, ...]] = []
    pieces: list[np.ndarray] = []
    seen, number, n_rows = None, -1, 0
    second_fields: list[int] = []
    for packet in demux(container, stream):
        if n_bytes := packet.size:
            budget.spend(n_bytes)
            if n_rows < _FIRST_PACKETS:
                first.append(packet)
            dts, pts, pos, is_key = packet.dts, packet.pts, packet.pos, packet.is_keyframe
            clean = None
            if is_key:
                clean = size is None or random_access(bytes(packet), codec, size)
            is_frame, step = True, 0
            if parser is not None:
                is_needed = steps.needs(pts, is_key)
                if is_needed or is_key or parser.all_matter:
                    kind = parser.read(packet)
                    if is_needed:
                        step = steps.step()
                    if parser.size != seen:
                        seen, number = parser.size, _number_of(parser.size, sizes, packet)
                    is_frame = kind in frames
                    if kind is PacketKind.SECOND_FIELD:
                        second_fields.append(n_rows)
            if dts is None:
                dts = NO_TIME
            if decoding or pts is None:
                pts = dts
            length, pos = packet.duration or 0, -1 if pos is None else pos
            key, unclean = clean is not None, clean is False
            discard, corrupt = packet.is_discard, packet.is_corrupt
            rows.append(
                (pts, dts, length, pos, number, key, unclean, discard, corrupt, is_frame, step)
            )
            n_rows += 1
        if len(rows) == _PIECE:
            pieces.append(_as_table(rows))
            rows.clear()
    table = np.concatenate([*pieces, _as_table(rows)])
    for number in second_fields:  # a frame lasts as long as both of its fields
        table["duration"][number - 1] += table["duration"][number]
        table["corrupt"][number - 1] |= table["corrupt"][number]
    return table


def _as_table(rows: list[tuple[Any, ...]]) -> np.ndarray:
    """`np.array` of rows, column by column, which is faster."""
    table = np.empty(len(rows), _PACKET)
    for (name, _), column in zip(_PACKET, zip(*rows, strict=True), strict=bool(rows)):
        table[name] = column
    return table


def _believe_times(table: np.ndarray, must_rise: bool) -> None:
    """Let every time have a frame, also where no packet of it seems to show one.

    Hidden frames come at the time of a shown one, or a tick beside it. A packet with a time of its
    own that seems to be hidden has a damaged header, or is cut off.

    Args:
        table: all packets of a stream, see `Packets.table`.
        must_rise: whether the container gives no two packets the same time; where its clock ticks
            once a frame, hidden frames then have times of their own.
    """
    pts, frame = table["pts"], table["frame"]
    if frame.all() or (pts == NO_TIME).any():
        return
    steps = np.diff(np.unique(pts[frame]))
    if len(steps) == 0:
        steps = np.diff(np.unique(pts))
    if must_rise and (len(steps) == 0 or np.median(steps) <= 2):
        return
    begins = np.ones(len(pts), bool)  # a time of its own
    if len(steps):
        begins[1:] = np.abs(np.diff(pts)) >= np.median(steps) / 2
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(pts)) - 1
    frame[last[~np.logical_or.reduceat(frame, first)]] = True


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
    table["frame"], table["size"] = True, -1
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
