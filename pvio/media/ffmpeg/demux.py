"""Packets of a container, also if further streams appear while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

# Packets per file that may exceed the memory before reading fails.
from pvio.concurrency.timeout import report_progress

_MOST_FAILED = 10


def demux(container: Any, *streams: Any) -> Iterator[av.Packet[Any]]:
    """Packets of some streams in the order of the file, then an empty one for each stream.

    In MPEG-TS and other containers without a header, streams may appear after the file was opened.
    PyAV skips their packets, but may raise IndexError at the end (PyAV 18.1,
    `InputContainer.demux`), which is handled here. Packets with damaged sizes that exceed the
    memory are skipped.

    Args:
        container: just opened, or positioned by a seek.
        streams: of the container.

    Raises:
        MemoryError: if many packets exceed the memory.
        av.error.FFmpegError: if reading fails.
    """
    packets, n_failed = container.demux(*streams), 0
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # of a later stream; all packets of `streams` have been read
            return
        except MemoryError:
            n_failed += 1
            if n_failed > _MOST_FAILED:
                raise
            packets = container.demux(*streams)
            continue
        if packet is None:
            return
        report_progress()
        yield packet
