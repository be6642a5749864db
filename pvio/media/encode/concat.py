"""Concatenate encoded segments into one video, with the time stamps of the source."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np

from pvio.concurrency.child_process import ChildCrashed, Worker, WorkerPool
from pvio.concurrency.prefetch import StallTimeout
from pvio.concurrency.timeout import keep_reporting, report_progress
from pvio.errors import EncodeError
from pvio.media.encode.audio_metadata import AudioCopier, copy_metadata, needs_mdta_tags
from pvio.media.encode.format import output_color
from pvio.media.ffmpeg.container import absolute_path, open_container
from pvio.media.index.frame_index import FrameIndex
from pvio.media.timing.muxed_times import (
    is_matroska,
    muxed_timestamps,
    negative_start,
    presentation_times,
)

logger = logging.getLogger(__name__)

# Number of the first frame, number after the last one, and what a `SegmentEncoder` wrote.
EncodedSegment = tuple[int, int, bytes | BinaryIO]

_FASTEST_TIME_CODE = 255


def concat_segments(
    segments: Iterable[EncodedSegment],
    index: FrameIndex,
    path: str | os.PathLike[str],
    *,
    audio: bool = True,
    metadata: bool = True,
) -> list[str]:
    """Write a video from its encoded segments, with the source's audio packets and metadata.

    Every frame gets the time stamp of its source frame, see `muxed_timestamps`.

    Args:
        segments: in the order of the frames.
        index: of the source video.
        path: of the video to write; the caller renames it once it is complete.
        audio: whether to copy the audio of the source.
        metadata: whether to copy its metadata and chapters.

    Returns:
        Warnings about audio of the source that is left out.

    Raises:
        EncodeError: if a segment has a wrong number of frames or other codec parameters than the
            first, or if the time stamps of the written video are not those of the source. The
            message names the segment.
    """
    has_source = not index.has_images
    needs_metadata = metadata and has_source
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(
            av.open(
                absolute_path(path),
                "w",
                # FFmpeg's own choice for .m4v takes no H.265.
                format="mp4" if os.fspath(path).lower().endswith(".m4v") else None,
                container_options=_muxer_options(index, path, needs_metadata),
            )
        )
        muxer = _Muxer(target, index, path, audio and has_source, needs_metadata)
        stack.callback(muxer.close)
        expected = 0
        for start, stop, payload in segments:
            name = f"{index.path}: frames {start} to {stop - 1}"
            if start != expected:
                raise EncodeError(f"{name} follow the frames up to {expected - 1}")
            expected = stop
            file = io.BytesIO(payload) if isinstance(payload, bytes) else payload
            muxer.add(file, start, stop, name)
        warnings = muxer.finish()
        with keep_reporting():  # moving the index to the front copies the whole file
            target.close()
    _verify(path, index)
    return warnings


class _Muxer:
    """Writes the packets of segments and of the source's audio into an open container."""

    def __init__(
        self,
        target: Any,
        index: FrameIndex,
        path: str | os.PathLike[str],
        has_audio: bool,
        has_metadata: bool,
    ):
        self._target, self._index, self._path = target, index, path
        self._has_audio, self._has_metadata = has_audio, has_metadata
        self._clock = _Clock(index, path)
        self._first: _Parameters | None = None
        self._video: Any = None
        self._audio: AudioCopier | None = None

    def add(self, file: BinaryIO, start: int, stop: int, name: str) -> None:
        """Mux a segment, interleaved with the audio; `name` is for errors."""
        found, numbers = _scan_segment(file, start, stop, name)
        clock = self._clock
        with open_container(file) as source:
            stream = source.streams.video[0]
            if self._first is None:
                self._first = found
                self._begin(stream)
            depth = self._first.reorder_depth
            if found != self._first:
                raise EncodeError(f"{name} {_difference(found, self._first)}")
            packets = (packet for packet in source.demux(stream) if packet.size)
            for position, (packet, number) in enumerate(zip(packets, numbers, strict=True), start):
                report_progress()
                _retime(packet, position, number, clock, depth, name)
                packet.stream = self._video
                if self._audio is not None:  # interleaved by time, as players expect
                    self._audio.write_until(clock.dts(position, depth) * clock.unit)
                self._target.mux(packet)

    def finish(self) -> list[str]:
        """Write the rest of the audio; returns warnings about audio that is left out."""
        if self._audio is None:
            return []
        self._audio.write_until(None)
        return self._audio.warnings

    def close(self) -> None:
        if self._audio is not None:
            self._audio.close()

    def _begin(self, stream: Any) -> None:
        index, target = self._index, self._target
        self._video = _add_video(target, stream, index, self._clock.unit, self._path)
        start_offset = negative_start(index.pts) * index.time_base
        if start_offset:
            logger.warning(
                "%s: time stamps start at -%g s; video, audio and chapters are shifted by that "
                "much to start at 0",
                *(index.path, float(start_offset)),
            )
        if self._has_metadata:
            copy_metadata(index, target, start_offset)
        if self._has_audio:
            self._audio = AudioCopier(index, target, start_offset)


def concat_in_child(
    workers: Worker | WorkerPool,
    load: Callable[[], Iterable[EncodedSegment]],
    index: FrameIndex,
    path: str | os.PathLike[str],
    timeout: float,
) -> list[str]:
    """`concat_segments` in a child process, as audio and metadata are read from the source.

    When FFmpeg crashes or hangs at the source, the video has no audio and metadata of it.

    Args:
        workers: make the calls.
        load: gives the segments; can be pickled.
        index: of the source.
        path: see `concat_segments`.
        timeout: seconds without a sign of life.

    Returns:
        Warnings about what is left out.

    Raises:
        EncodeError: also when a child crashes or hangs without reading the source.
    """
    try:
        found: list[str] = workers.call(_concat, load, index, path, True, timeout=timeout)
        return found
    except StallTimeout:
        reason = f"nothing was read for {timeout:g} s"
    except ChildCrashed as error:
        reason = str(error)
    warning = f"its audio and metadata are left out: FFmpeg failed to read them ({reason})"
    logger.warning("%s: %s", index.path, warning)
    try:
        return [warning, *workers.call(_concat, load, index, path, False, timeout=timeout)]
    except (StallTimeout, ChildCrashed) as error:
        raise EncodeError(f"{index.path}: concatenating failed: {error}") from error


def _concat(
    load: Callable[[], Iterable[EncodedSegment]],
    index: FrameIndex,
    path: str | os.PathLike[str],
    source: bool,
) -> list[str]:
    return concat_segments(load(), index, path, audio=source, metadata=source)


@dataclass(frozen=True)
class _Parameters:
    """Codec parameters that all segments of one video share."""

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
    advice = (
        "remove the folder 'video' in the cache and run again with --forcerun encode (infer with "
        "output.video: frames)"
    )
    if found.encoder != first.encoder:
        return (
            f"were encoded by {found.encoder}, those before by {first.encoder}, which "
            "cannot be concatenated. Set output.codec to an encoder that works on every machine, "
            "such as libx264; or, "
            f"where all machines have the same, {advice}"
        )
    kinds = [
        f"{each.codec} {each.pix_fmt} {each.size[0]}×{each.size[1]}" for each in (found, first)
    ]
    if kinds[0] != kinds[1]:
        return f"were encoded as {kinds[0]}, those before as {kinds[1]}"
    return (
        "were encoded with other parameters than the frames before, maybe by another version of "
        f"the encoder; {advice}"
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
    # Some codecs cannot store these in their own data.
    color = output_color(index)
    context.color_range, context.colorspace = color.color_range, color.colorspace
    context.color_primaries, context.color_trc = color.color_primaries, color.color_trc
    if context.name in ("hevc", "libx265") and not is_matroska(path):
        context.codec_tag = "hvc1"  # Safari plays no other
    video.time_base = unit
    # NUT states no rate: FFmpeg would take one unit of its time stamps for a frame's duration.
    context.framerate = index.average_rate
    return video


def _muxer_options(
    index: FrameIndex, path: str | os.PathLike[str], metadata: bool
) -> dict[str, str]:
    if is_matroska(path):
        return {"avoid_negative_ts": "disabled"}
    # The index at the front, and a movie time scale in which the edit list is exact.
    clock = index.time_base.denominator
    while clock < 10_000:  # as FFmpeg's muxer chooses that of the track (libavformat/movenc.c)
        clock *= 2
    mdta = "+use_metadata_tags" if metadata and needs_mdta_tags(index) else ""
    options = {"movflags": f"+faststart{mdta}", "movie_timescale": str(clock)}
    # A time code track counts frames within a second in a byte.
    return options | ({"write_tmcd": "0"} if index.average_rate > _FASTEST_TIME_CODE else {})


class _Clock:
    """Time stamps of the packets, in the units of the container.

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
        """Decoding time of the packet at a position in the file; `depth` frames are reordered."""
        if position >= depth:
            return int(self.pts[position - depth])
        return int(self.pts[0]) - self._step * (depth - position)


def _scan_segment(
    file: BinaryIO, start: int, stop: int, name: str
) -> tuple[_Parameters, list[int]]:
    """Parameters of a segment, and the frame number of each of its packets.

    Packets are not kept: a video that was encoded in one piece may exceed the memory.
    """
    with open_container(file) as source:
        stream = source.streams.video[0]
        found = _parameters(stream)
        pts = [int(packet.pts or 0) for packet in source.demux(stream) if packet.size]
    file.seek(0)
    if len(pts) != stop - start:
        raise EncodeError(f"{name} were encoded as {len(pts)} frames instead of {stop - start}")
    return found, (np.argsort(np.argsort(pts)) + start).tolist()


def _retime(packet: Any, position: int, number: int, clock: _Clock, depth: int, name: str) -> None:
    packet.pts, packet.dts = int(clock.pts[number]), clock.dts(position, depth)
    packet.duration = int(clock.durations[number])
    packet.time_base = clock.unit
    if packet.dts > packet.pts:
        raise EncodeError(
            f"{name}: frame {number} is decoded after it is shown; the encoder reorders more than "
            f"the {depth} frame(s) it declares"
        )


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


def _shown(times: Sequence[Fraction], number: int) -> str:
    return f"{float(times[number]):.6f} s" if number < len(times) else "no time"
