"""Packets that an MP4 or MOV file lists but does not contain, as in a truncated file."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import numpy as np

from pvio.media.containers.mp4_tables import composition_offsets

# As many frames at most are decoded before one that is shown before them.
_MOST_REORDERED = 16


def add_lost_packets(path: str, stream: Any, found: np.ndarray) -> tuple[np.ndarray, bool]:
    """All packets that the file's own list names, in decoding order; the lost are no keyframes.

    The list has decoding times. Presentation times of lost packets come from the file's table of
    their offsets, or else complete those of the others, see `_all_times`.

    Args:
        path: the file.
        stream: with index entries.
        found: rows of the packets that could be read, see `PacketTable.rows`.

    Returns:
        The rows, and whether any that is shown is lost.
    """
    entries = stream.index_entries
    table = np.zeros(len(entries), found.dtype)
    table["frame"], table["size"] = True, -1
    rows: defaultdict[tuple[int, int], deque[int]] = defaultdict(deque)
    for number, place in enumerate(zip(found["pos"].tolist(), found["dts"].tolist(), strict=True)):
        rows[place].append(number)
    lost = np.ones(len(table), bool)
    for number, entry in enumerate(entries):
        if same := rows.get((entry.pos, entry.timestamp)):
            table[number] = found[same.popleft()]
            lost[number] = False
        else:
            table[number]["dts"], table[number]["pos"] = entry.timestamp, entry.pos
            table[number]["discard"] = entry.is_discard
    known = table["pts"][~lost]
    late = known - table["dts"][~lost]
    for offsets in composition_offsets(path, len(table)):
        more = np.unique(late - offsets[~lost])
        if len(more) == 1:
            table["pts"][lost] = (table["dts"] + offsets + more[0])[lost]
            break
    else:
        times = _all_times(np.sort(table["dts"]), known)
        if times is None:
            table["pts"][lost] = table["dts"][lost] + (int(np.median(late)) if len(late) else 0)
        else:
            table["pts"][lost] = np.setdiff1d(times, known)
    return table, bool((lost & ~table["discard"]).any())


def _all_times(dts: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """Presentation times of all packets, ascending, computed from their decoding times.

    A frame is decoded a steady number of frames before it is shown, as muxers write it that know
    presentation times only; else a steady time before.

    Args:
        dts: int64, ascending.
        known: int64, presentation times of some packets, the first that is shown among them.

    Returns:
        int64; None where neither fits the known ones.
    """
    if len(known) == 0 or len(np.unique(known)) < len(known):
        return None
    first, step = int(known.min()), int(np.median(np.diff(dts))) if len(dts) > 1 else 1
    options = [
        np.concatenate([dts[depth:], dts[-1] + step * np.arange(1, depth + 1)])
        for depth in range(min(_MOST_REORDERED, len(dts) - 1) + 1)
    ]
    for times in [*options, dts + first - dts[0]]:
        if times[0] == first and np.isin(known, times).all() and len(np.unique(times)) == len(dts):
            return np.asarray(times)
    return None
