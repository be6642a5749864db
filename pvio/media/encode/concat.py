"""Joining encoded segments into one video by re-muxing packets, with the source's time stamps."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from pvio.errors import EncodeError
from pvio.media.encode.audio_metadata import AudioCopier, copy_metadata, needs_mdta_tags
from pvio.media.encode.format import output_color
from pvio.media.ffmpeg.container import absolute_path, open_container
from pvio.media.index.frame_index import FrameIndex

log = logging.getLogger(__name__)

Segment = tuple[int, int, bytes | BinaryIO]

# FFmpeg writes Matroska in milliseconds and has no option for less (libavformat/matroskaenc.c).
_MATROSKA_UNIT = Fraction(1, 1000)
_FASTEST_TIME_CODE = 255


def concat_segments(
    segments: Iterable[Segment],
    index: FrameIndex,
    path: str | os.PathLike[str],
    *,
    audio: bool = True,
    metadata: bool = True,
) -> list[str]:
    """Write a video from its encoded segments, with the source's audio packets and metadata.

    Every frame gets its source frame's time stamp, see `muxed_timestamps`.

    Args:
        segments: (start, stop, what a `SegmentEncoder` wrote) in the order of the frames.
        index: of the source video.
        path: of the video to write; the caller renames it once it is complete.
        audio: whether to copy the audio of the source.
        metadata: whether to copy its metadata and chapters.

    Returns:
        What of the source's sound is left out, as words.

    Raises:
        EncodeError: when a segment has another number of frames or other codec parameters than it
            must have, or when the video read back has other time stamps than the source. It names
            the segment.
    """
    clock = _Clock(index, path)
    video: Any = None
    first: _Parameters | None = None
    has_source = not index.has_images
    expected = 0
    words = metadata and has_source
    sound: AudioCopier | None = None
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(
            av.open(
                absolute_path(path),
                "w",
                # FFmpeg's own choice for .m4v takes no H.265.
                format="mp4" if os.fspath(path).lower().endswith(".m4v") else None,
                container_options=_muxer_options(index, path, words),
            )
        )
        for start, stop, payload in segments:
            name = f"{index.path}: frames {start} to {stop - 1}"
            if start != expected:
                raise EncodeError(f"{name} follow the frames up to {expected - 1}")
            expected = stop
            file = io.BytesIO(payload) if isinstance(payload, bytes) else payload
            found, ranks = _survey(file, start, stop, name)
            with open_container(file) as source:
                stream = source.streams.video[0]
                if first is None:
                    first = found
                    video = _add_video(target, stream, index, clock.unit, path)
                    later = negative_start(index.pts) * index.time_base
                    if later:
                        log.warning(
                            "%s: it begins %g s before 0; the new video, sound and chapters "
                            "included, is that much later",
                            *(index.path, float(later)),
                        )
                    if words:
                        copy_metadata(index, target, later)
                    if audio and has_source:
                        sound = AudioCopier(index, target, later)
                        stack.callback(sound.close)
                if found != first:
                    raise EncodeError(f"{name} {_difference(found, first)}")
                packets = (packet for packet in source.demux(stream) if packet.size)
                for position, (packet, rank) in enumerate(zip(packets, ranks, strict=True), start):
                    _retime(packet, position, rank, clock, first.reorder_depth, name)
                    packet.stream = video
                    if sound is not None:  # interleaved by time, as players expect
                        sound.write_until(clock.dts(position, first.reorder_depth) * clock.unit)
                    target.mux(packet)
        if sound is not None:
            sound.write_until(None)
    _verify(path, index)
    return sound.remarks if sound is not None else []


def muxed_timestamps(
    pts: np.ndarray, time_base: Fraction, path: str | os.PathLike[str]
) -> tuple[np.ndarray, Fraction]:
    """The times of frames as a container holds them: strictly ascending, exact but in Matroska.

    Matroska counts milliseconds: times are rounded to the nearest. Repeated ones move up to the
    next free unit. Where frames begin before 0, which containers cannot show, they begin at 0.

    Args:
        pts: int64, ascending, in units of `time_base`.
        time_base: seconds per unit.
        path: of the video; its ending tells the container.

    Returns:
        int64 time stamps, and the seconds per unit of these.
    """
    pts = pts + negative_start(pts)
    if not _is_matroska(path):
        return strictly_ascending(pts), time_base
    scale = time_base / _MATROSKA_UNIT
    num, den = scale.numerator, scale.denominator
    units = np.array([(2 * int(each) * num + den) // (2 * den) for each in pts], np.int64)
    return strictly_ascending(units), _MATROSKA_UNIT


def negative_start(pts: np.ndarray) -> int:
    """By how much a video begins before 0, in the units of its time stamps."""
    return max(0, -int(pts[0])) if len(pts) else 0


def strictly_ascending(pts: np.ndarray) -> np.ndarray:
    """Time stamps as a container can hold them: repeated ones move up to the next free unit."""
    if len(pts) < 2 or np.all(np.diff(pts) > 0):
        return pts
    ranks = np.arange(len(pts))
    return np.maximum.accumulate(pts - ranks) + ranks


def presentation_times(path: str | os.PathLike[str]) -> list[Fraction]:
    """When the frames of a video are shown, in seconds, ascending."""
    with open_container(os.fspath(path)) as container:
        stream = container.streams.video[0]
        unit = stream.time_base or Fraction(1)
        return sorted(
            int(packet.pts or 0) * unit for packet in container.demux(stream) if packet.size
        )


@dataclass(frozen=True)
class _Parameters:
    """What the segments of one video must have in common."""

    encoder: str
    codec: str
    pix_fmt: str
    size: tuple[int, int]
    reorder_depth: int
    extradata: bytes


def _parameters(stream: Any) -> _Parameters:
    context = stream.codec_context
    return _Parameters(
        encoder=stream.metadata.get("encoder", ""),
        codec=context.name,
        pix_fmt=context.pix_fmt or "",
        size=(context.width, context.height),
        reorder_depth=context.reorder_depth,
        extradata=context.extradata or b"",
    )


def _difference(found: _Parameters, first: _Parameters) -> str:
    again = (
        "remove the folder 'video' in the cache and run again with --forcerun encode (infer with "
        "output.video: frames)"
    )
    if found.encoder != first.encoder:
        return (
            f"were encoded by {found.encoder}, those before by {first.encoder}, which do not join. "
            "Set output.codec to an encoder that works on every machine, such as libx264; or, "
            f"where all machines have the same, {again}"
        )
    kinds = [
        f"{each.codec} {each.pix_fmt} {each.size[0]}×{each.size[1]}" for each in (found, first)
    ]
    if kinds[0] != kinds[1]:
        return f"were encoded as {kinds[0]}, those before as {kinds[1]}"
    return (
        "were encoded with other parameters than the frames before, maybe by another version of "
        f"the encoder; {again}"
    )


def _add_video(
    target: Any,
    stream: Any,
    index: FrameIndex,
    unit: Fraction,
    path: str | os.PathLike[str],
) -> Any:
    video = target.add_stream_from_template(stream)
    context = video.codec_context
    # Some codecs have no place for these in their own data.
    color = output_color(index)
    context.color_range, context.colorspace = color[0], color[1]
    context.color_primaries, context.color_trc = color[2], color[3]
    if context.name in ("hevc", "libx265") and not _is_matroska(path):
        context.codec_tag = "hvc1"  # Safari plays no other
    video.time_base = unit
    # NUT states none: FFmpeg takes the unit of its times for the time of a frame.
    context.framerate = index.average_rate
    return video


def _muxer_options(index: FrameIndex, path: str | os.PathLike[str], words: bool) -> dict[str, str]:
    if _is_matroska(path):
        return {"avoid_negative_ts": "disabled"}
    # The index at the front, and a clock in which the edit list holds the start exactly.
    clock = index.time_base.denominator
    while clock < 10_000:  # as FFmpeg's muxer chooses that of the track (libavformat/movenc.c)
        clock *= 2
    free = "+use_metadata_tags" if words and needs_mdta_tags(index) else ""
    options = {"movflags": f"+faststart{free}", "movie_timescale": str(clock)}
    # A time code track counts frames within a second in a byte.
    return options | ({"write_tmcd": "0"} if index.average_rate > _FASTEST_TIME_CODE else {})


class _Clock:
    """Time stamps of the packets.

    Attributes:
        unit: seconds per unit.
        pts: of every frame.
        durations: of every frame.
    """

    def __init__(self, index: FrameIndex, path: str | os.PathLike[str]):
        self.pts, self.unit = muxed_timestamps(index.pts, index.time_base, path)
        last = max(1, round(index.last_seconds / self.unit))
        self.durations = np.append(np.diff(self.pts), last)
        self._step = int(np.median(np.diff(self.pts))) if len(self.pts) > 1 else 1

    def dts(self, position: int, depth: int) -> int:
        """When the packet at a position in the file is decoded: `depth` frames are held back."""
        if position >= depth:
            return int(self.pts[position - depth])
        return int(self.pts[0]) - self._step * (depth - position)


def _survey(file: BinaryIO, start: int, stop: int, name: str) -> tuple[_Parameters, list[int]]:
    """Parameters of a segment, and the ranks of its frames in the order of its packets.

    Packets are not kept: a video that was encoded in one piece may be larger than the memory.
    """
    with open_container(file) as source:
        stream = source.streams.video[0]
        found = _parameters(stream)
        pts = [int(packet.pts or 0) for packet in source.demux(stream) if packet.size]
    file.seek(0)
    if len(pts) != stop - start:
        raise EncodeError(f"{name} were encoded as {len(pts)} frames instead of {stop - start}")
    return found, (np.argsort(np.argsort(pts)) + start).tolist()


def _retime(packet: Any, position: int, rank: int, clock: _Clock, depth: int, name: str) -> None:
    packet.pts, packet.dts = int(clock.pts[rank]), clock.dts(position, depth)
    packet.duration = int(clock.durations[rank])
    packet.time_base = clock.unit
    if packet.dts > packet.pts:
        raise EncodeError(
            f"{name}: frame {rank} is decoded after it is shown; the encoder reorders more than "
            f"the {depth} frame(s) it declares"
        )


def _is_matroska(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(".mkv")


def _verify(path: str | os.PathLike[str], index: FrameIndex) -> None:
    times = presentation_times(path)
    pts, unit = muxed_timestamps(index.pts, index.time_base, path)
    expected = [int(each) * unit for each in pts]
    if times != expected:
        wrong = next(
            (i for i, (a, b) in enumerate(zip(times, expected, strict=False)) if a != b),
            min(len(times), len(expected)),
        )
        raise EncodeError(
            f"{index.path}: the re-encoded video has {len(times)} frames for {len(expected)}, and "
            f"differs from frame {wrong} on: it is shown at {_shown(times, wrong)} instead of "
            f"{_shown(expected, wrong)}"
        )


def _shown(times: Sequence[Fraction], rank: int) -> str:
    return f"{float(times[rank]):.6f} s" if rank < len(times) else "no time"
