"""Packets of a container, also of one in which further streams appear while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

# Packets in a file for which there may be no memory.
_MOST_FAILED = 10


def demux(container: Any, *streams: Any) -> Iterator[av.Packet]:
    """Packets of some streams in the order of the file, then an empty one for each stream.

    In MPEG-TS and other containers without a header, streams may appear after the file was opened.
    PyAV leaves their packets out, but may then raise IndexError at the end, where it looks for such
    a stream among those that it knows (PyAV 18.1, `InputContainer.demux`).

    A packet of a size that is no true one, for which there is no memory, is passed over.

    Args:
        container: just opened, or after a seek.
        streams: of the container.

    Raises:
        av.error.FFmpegError: when reading fails.
    """
    packets, n_failed = container.demux(*streams), 0
    while True:
        try:
            packet = next(packets, None)
        except IndexError:  # of a later stream: those that were asked for have all been read
            return
        except MemoryError:
            n_failed += 1
            if n_failed > _MOST_FAILED:
                raise
            packets = container.demux(*streams)
            continue
        if packet is None:
            return
        yield packet
