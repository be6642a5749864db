"""Size and orientation of the frames of a video; sizes may change within it."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any, NamedTuple

import av

from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.log import capture_log
from pvio.media.index.packets import PacketTable
from pvio.media.pixels.orientation import Orientation, orientation_of

# Sizes that a single frame has count as damage, unless more than this share of frames has one.
_SHARE_OF_SINGLE = 0.05

Size = tuple[int, int]


class FrameSizes(NamedTuple):
    """Sizes of the coded frames.

    Attributes:
        size: (height, width) that most frames have; the larger one of two that are as frequent.
        pix_fmt: pixel format of such frames (FFmpeg's name), or "unknown".
        others: the other sizes.
        counts: how many frames have each of the other sizes.
    """

    size: Size
    pix_fmt: str
    others: tuple[Size, ...] = ()
    counts: tuple[int, ...] = ()

    def upright(self, orientation: Orientation) -> FrameSizes:
        """The sizes after rotation for display."""
        size, *others = (orientation.upright_size(*size) for size in (self.size, *self.others))
        return self._replace(size=size, others=tuple(others))


def frame_sizes(packets: PacketTable, stream: Any) -> FrameSizes:
    """The sizes of a video's frames; where there are several, one frame of each is decoded.

    Sizes come from packet headers. A size counts if several frames have it and its first keyframe
    can be decoded: a damaged header is not a change of size.

    Args:
        packets: of the stream.
        stream: of which one frame has been decoded, if possible.
    """
    context = stream.codec_context
    first = FrameSizes((context.height, context.width), context.pix_fmt or "unknown")
    shown = packets.rows["size"][~packets.rows["discard"]]
    counts = Counter(shown[shown >= 0].tolist())
    if not counts or (len(counts) == 1 and context.height):
        return first
    n_single = sum(n for n in counts.values() if n == 1)
    if len(counts) > 1 and n_single <= max(1, _SHARE_OF_SINGLE * len(shown)):
        counts = Counter({number: n for number, n in counts.items() if n > 1})
    decoded: Counter[Size] = Counter()
    formats: dict[Size, str] = {}
    for number, n in counts.items():
        stated, packet = packets.sizes[number]
        size, pix_fmt = _decoded_size(packet, context) if packet.is_keyframe else (stated, "")
        if size is not None:
            decoded[size] += n
            formats.setdefault(size, pix_fmt or first.pix_fmt)
    if not decoded:
        return first
    main = max(decoded, key=lambda size: (decoded[size], size[0] * size[1]))
    others = tuple(size for size in decoded if size != main)
    return FrameSizes(main, formats[main], others, tuple(decoded[size] for size in others))


def size_warning(sizes: FrameSizes, n_frames: int) -> str:
    """A warning where sizes differ; else "".

    Args:
        sizes: after rotation for display.
        n_frames: of the video.
    """
    if not sizes.others:
        return ""
    listed = ", ".join(f"{width}×{height}" for height, width in sizes.others[:3])
    listed += ", ..." if len(sizes.others) > 3 else ""
    height, width = sizes.size
    n = sum(sizes.counts)
    return f"{n} of {n_frames} frames are {listed} and are scaled to {width}×{height}"


def _decoded_size(packet: av.Packet[Any], context: Any) -> tuple[Size | None, str]:
    """Size and pixel format of the frame of a packet; None where it is damaged."""
    decoder: Any = av.CodecContext.create(context.codec.name, "r")
    decoder.extradata = context.extradata
    decoder.thread_count = 1
    with capture_log(), contextlib.suppress(av.error.FFmpegError):
        if frames := [*decoder.decode(packet), *decoder.decode(None)]:
            return (frames[0].height, frames[0].width), frames[0].format.name
    return None, ""


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
