"""The display orientation of a video, from its packets or its first frame."""

from __future__ import annotations

import contextlib
from typing import Any

import av

from pvio.media.ffmpeg.container import open_container
from pvio.media.pixels.orientation import Orientation, orientation_of


def display_orientation(
    path: str, stream: Any, leading_packets: list[av.Packet[Any]]
) -> Orientation:
    """The orientation given by the display matrix of the first frame that can be decoded.

    Args:
        path: the file.
        stream: of the file.
        leading_packets: its first packets; if none gives a frame, the file is decoded further.
    """
    return _among(stream, leading_packets) or _from_start(path, stream.index) or Orientation()


def _among(stream: Any, packets: list[av.Packet[Any]]) -> Orientation | None:
    stream.codec_context.thread_count = 1
    with contextlib.suppress(av.error.FFmpegError):
        for packet in packets:
            for frame in packet.decode():
                return orientation_of(frame)
    return None


def _from_start(path: str, stream_index: int) -> Orientation | None:
    with contextlib.suppress(av.error.FFmpegError), open_container(path) as container:
        stream = container.streams[stream_index]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            return orientation_of(frame)
    return None
