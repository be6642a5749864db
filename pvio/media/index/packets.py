"""The packets of a video stream, in decoding order, each with its presentation time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from pvio.media.bitstream.nal.units import RandomAccess, nal_length_size, random_access
from pvio.media.bitstream.packet_kinds import PacketKind
from pvio.media.containers.limits import Budget
from pvio.media.containers.lost_packets import add_lost_packets
from pvio.media.ffmpeg.demux import demux
from pvio.media.index.packet_times import (
    NO_TIME,
    distinct_times,
    find_restarts,
    frame_rate,
    interpolate_missing_pts,
    is_ambiguous,
    join_clocks,
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

# Enough to decode a frame, also with long reordering.
_FIRST_PACKETS = 32
# More frame sizes than any video has, unless it is damaged or hostile.
_MOST_SIZES = 64
_PACKET = [("pts", "<i8"), ("dts", "<i8"), ("duration", "<i8"), ("pos", "<i8"), ("size", "<i4")]
_PACKET += [(name, "?") for name in ("key", "unclean", "discard", "corrupt", "frame")]
# Whether its header orders it before (-1) or after (1) the previous packet; 0: not known.
_PACKET += [("step", "i1")]
# Codecs with hidden frames.
_WITH_HIDDEN_FRAMES = ("vp8", "vp9", "av1")
# Packets that are kept as Python objects at a time.
_CHUNK = 4096


class PacketTable(NamedTuple):
    """The frames of a stream, from its packets; nothing is decoded.

    Attributes:
        rows: structured array, one row per frame in decoding order. `pts`, `dts` and `duration`
            are in units of the stream's time base (duration 0 where there is none). `pos` is the
            position in the file in bytes (-1 where not known), `size` an index into `sizes` (-1
            where not known). `key`: decoding can start here; `unclean`: frames before it are
            missing then; `discard`: not shown; `corrupt`: incomplete.
        pts_identify_frames: whether the time stamp of a decoded frame identifies its packet.
        damage: what is wrong with the time stamps or the number of packets; mostly "".
        leading_packets: the first packets of the stream.
        rate: frames per second, where time stamps are computed from it; else None.
        warning: about these time stamps; mostly "".
        sizes: (height, width) that headers state, each with its first packet.
    """

    rows: np.ndarray
    pts_identify_frames: bool
    damage: str
    leading_packets: list[av.Packet[Any]]
    rate: Fraction | None = None
    warning: str = ""
    sizes: Sequence[tuple[tuple[int, int], av.Packet[Any]]] = ()


def read_packets(path: str, container: Any, stream: Any) -> PacketTable:
    """Read all packets of a stream; those that are listed but missing get rows as well.

    Args:
        path: the file.
        container: the file, just opened.
        stream: of the container.

    Raises:
        UnreadableVideo: if the file is damaged so that reading it has no end.
        av.error.FFmpegError: if reading fails.
    """
    leading: list[av.Packet[Any]] = []
    sizes: dict[tuple[int, int], av.Packet[Any]] = {}
    table, damage = _demux_rows(path, container, stream, leading, sizes), ""
    format_name = container.format.name
    n_listed = sum(1 for entry in stream.index_entries if not entry.is_discard)
    if len(table) < n_listed and format_name == "avi":
        # Lost packets are frames as well.
        table = _avi_table(stream, table)
        damage = "packets that its index lists are lost"
    elif len(table) < len(stream.index_entries) and format_name.startswith("mov,"):
        table, is_short = add_lost_packets(path, stream, table)
        damage = "it ends before the last frames that it lists" if is_short else ""
    if stream.codec_context.codec.canonical_name in _WITH_HIDDEN_FRAMES and not is_raw(format_name):
        _show_each_time(table, must_rise=is_counting(format_name) or format_name == "ivf")
    n_packets, table = len(table), table[table["frame"]]
    if (computed := _computed_times(path, container, stream, table)) is not None:
        return computed._replace(damage=damage, leading_packets=leading, sizes=list(sizes.items()))
    rate = frame_rate(nominal_rate(stream), n_packets, table["pts"], stream.time_base)
    step = 1 / (rate * stream.time_base)
    is_timed = not (table["pts"] == NO_TIME).any()
    if not is_timed:
        table["pts"] = interpolate_missing_pts(table["pts"], step)
    if len(restarts := find_restarts(table["dts"], step)):
        is_timed = False
        damage = damage or f"time stamps restart at packet {restarts[0]}; they are continued"
        table["pts"] = join_clocks(table["pts"], restarts, step)
    is_timed = is_timed and not is_ambiguous(table["pts"])
    if _pts_are_dts(path, stream, table):
        is_timed, table["pts"] = False, distinct_times(table["pts"], table["dts"], step)
    return PacketTable(table, is_timed, damage, leading, sizes=list(sizes.items()))


def _computed_times(
    path: str, container: Any, stream: Any, table: np.ndarray
) -> PacketTable | None:
    """Packets with time stamps computed from a rate; None where the container has its own."""
    format_name, unit = container.format.name, Fraction(stream.time_base)
    raw, nothing_timed = is_raw(format_name), bool((table["pts"] == NO_TIME).all())
    # AVI has decoding times only, which are of no use where frames are reordered.
    reorders = format_name == "avi" and bool(stream.codec_context.has_b_frames)
    stated = stream.average_rate or stream.guessed_rate
    counts_wrongly = is_counting(format_name) and bool(stated) and not is_believable(stated)
    if not (raw or nothing_timed or reorders or counts_wrongly):
        return None
    if (
        format_name == "m4v"
        and (times := vop_times(path, stream.index))
        and len(times) == len(table)
    ):
        rate = rate_of_times(times)
        if is_believable(rate):
            table["pts"] = [round((time - min(times)) / unit) for time in times]
            return PacketTable(table, False, "", [], rate)
    rate, warning = stated_rate(stream, own=raw or nothing_timed)
    if len(table) < 2:
        warning = ""
    if is_counting(format_name) and not (table["pts"] == NO_TIME).any():
        # Numbers of frames, dropped ones included, in decoding order: as good as others.
        if not counts_wrongly:
            return PacketTable(table, False, "", [])
        pts = [round(int(number) * stated / rate) for number in table["pts"]]
    else:
        pts = [round(number / (rate * unit)) for number in range(len(table))]
    # For images and the like the demuxer computes the same time stamps.
    is_timed = raw and not is_untimed(format_name) and pts == table["pts"].tolist()
    table["pts"] = pts
    return PacketTable(table, is_timed, "", [], rate, warning)


def _pts_are_dts(path: str, stream: Any, table: np.ndarray) -> bool:
    """Whether presentation times are decoding times, see `pvio.media.timing.frame_order`."""
    reorders = bool(stream.codec_context.has_b_frames)
    if table["step"].any():
        columns = (table["pts"], table["step"], table["key"])
        return times_contradict(*columns, NO_TIME, reorders)
    if not reorders or len(table) < 2 or (np.diff(table["pts"]) <= 0).any():
        return False
    return decodes_out_of_order(path, stream.index)


def avi_positions(stream: Any) -> dict[int, int]:
    """Packet numbers by position in the file (bytes), from an AVI file's own index.

    FFmpeg computes time stamps from the number of packets found; after a lost packet, all others
    would come too early.

    Args:
        stream: with index entries.
    """
    entries = [entry for entry in stream.index_entries if entry.size]
    # An entry points at the chunk's header of 8 bytes, a packet at what follows it.
    return {entry.pos + 8: number for number, entry in enumerate(entries)}


def _demux_rows(
    path: str,
    container: Any,
    stream: Any,
    leading: list[av.Packet[Any]],
    sizes: dict[tuple[int, int], av.Packet[Any]],
) -> np.ndarray:
    """One row per packet; adds the first packets to `leading`, and frame sizes to `sizes`."""
    # FFmpeg guesses the presentation times of AVI packets, for some codecs one frame late. Where
    # no frame is reordered they are the decoding times.
    use_dts = container.format.name == "avi"
    context = stream.codec_context
    codec = context.codec.canonical_name
    length_size = nal_length_size(codec, context.extradata)
    budget, parser = Budget(path), parser_for(codec, context.extradata)
    steps = Steps(context, parser)
    frames = (PacketKind.FRAME, PacketKind.REPEATED)
    rows: list[tuple[Any, ...]] = []
    chunks: list[np.ndarray] = []
    seen, number, n_rows = None, -1, 0
    second_fields: list[int] = []
    for packet in demux(container, stream):
        if n_bytes := packet.size:
            budget.spend(n_bytes)
            if n_rows < _FIRST_PACKETS:
                leading.append(packet)
            dts, pts, pos, is_key = packet.dts, packet.pts, packet.pos, packet.is_keyframe
            access = RandomAccess.NONE
            if is_key:
                access = random_access(packet, codec, length_size)
            is_frame, step = True, 0
            if parser is not None:
                is_needed = steps.needs(pts, is_key)
                if is_needed or is_key or parser.all_matter:
                    kind = parser.read(packet)
                    if is_needed:
                        step = steps.step()
                    if parser.size != seen:
                        seen, number = parser.size, _size_number(parser.size, sizes, packet)
                    is_frame = kind in frames
                    if kind is PacketKind.SECOND_FIELD:
                        second_fields.append(n_rows)
            if dts is None:
                dts = NO_TIME
            if use_dts or pts is None:
                pts = dts
            length, pos = packet.duration or 0, -1 if pos is None else pos
            key = access is not RandomAccess.NONE
            unclean = access is RandomAccess.RECOVERY_POINT
            discard, corrupt = packet.is_discard, packet.is_corrupt
            rows.append(
                (pts, dts, length, pos, number, key, unclean, discard, corrupt, is_frame, step)
            )
            n_rows += 1
        if len(rows) == _CHUNK:
            chunks.append(_as_table(rows))
            rows.clear()
    table = np.concatenate([*chunks, _as_table(rows)])
    _merge_fields(table, second_fields)
    return table


def _merge_fields(table: np.ndarray, second_fields: list[int]) -> None:
    """A frame lasts as long as both of its fields, and is corrupt if one of them is."""
    for number in second_fields:
        table["duration"][number - 1] += table["duration"][number]
        table["corrupt"][number - 1] |= table["corrupt"][number]


def _as_table(rows: list[tuple[Any, ...]]) -> np.ndarray:
    """`np.array` of rows, column by column, which is faster."""
    table = np.empty(len(rows), _PACKET)
    for (name, _), column in zip(_PACKET, zip(*rows, strict=True), strict=bool(rows)):
        table[name] = column
    return table


def _show_each_time(table: np.ndarray, must_rise: bool) -> None:
    """Mark one frame per time stamp as shown, also where all of its packets seem hidden.

    A hidden frame has the time of a shown one, or one tick more or less. A packet with a time of
    its own that seems hidden has a damaged header, or is cut off.

    Args:
        table: all packets of a stream, see `PacketTable.rows`; changed in place.
        must_rise: whether the container gives no two packets the same time. If its clock ticks
            once per frame, hidden frames then have times of their own.
    """
    pts, frame = table["pts"], table["frame"]
    if frame.all() or (pts == NO_TIME).any():
        return
    steps = np.diff(np.unique(pts[frame]))
    if len(steps) == 0:
        steps = np.diff(np.unique(pts))
    if must_rise and (len(steps) == 0 or np.median(steps) <= 2):
        return
    begins = np.ones(len(pts), bool)  # packets with a new time
    if len(steps):
        begins[1:] = np.abs(np.diff(pts)) >= np.median(steps) / 2
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(pts)) - 1
    frame[last[~np.logical_or.reduceat(frame, first)]] = True


def _size_number(
    size: tuple[int, int] | None,
    sizes: dict[tuple[int, int], av.Packet[Any]],
    packet: av.Packet[Any],
) -> int:
    """Number of a size; a new one is added with its first packet."""
    if size is None or (size not in sizes and len(sizes) == _MOST_SIZES):
        return -1
    sizes.setdefault(size, packet)
    return list(sizes).index(size)


def _avi_table(stream: Any, found: np.ndarray) -> np.ndarray:
    """The packets by the file's own index; lost ones are not keyframes."""
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
