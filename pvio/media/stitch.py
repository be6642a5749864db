"""Joining encoded segments into one video by re-muxing packets, with the source's time stamps."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

from pvio.errors import EncodeError
from pvio.media.index import FrameIndex

log = logging.getLogger(__name__)


def join_segments(
    segments: Iterable[tuple[int, int, bytes]], index: FrameIndex, path: str | os.PathLike[str]
) -> None:
    """Write a video from its encoded segments, and copy the source's audio packets.

    Every frame gets its source frame's time stamp in the source's time base.

    Args:
        segments: (start, stop, encoded bytes) in the order of the frames.
        index: of the source video.
        path: of the video to write; the caller renames it once it is complete.

    Raises:
        EncodeError: when a segment has another number of frames or other codec parameters than it
            must have, or when the video read back has other time stamps than the source.
    """
    options = _mp4_options(index) if str(path).endswith((".mp4", ".mov")) else {}
    video: Any = None
    reference: bytes | None = None
    clock = _DecodeClock(index)
    with av.open(str(path), "w", container_options=options) as output:
        audio: Iterator[Any] = iter(())
        pending = None
        for start, stop, payload in segments:
            with av.open(io.BytesIO(payload)) as source:
                stream = source.streams.video[0]
                if video is None:
                    video = output.add_stream_from_template(stream)
                    video.time_base = index.time_base
                    reference = stream.codec_context.extradata
                    audio = _audio_packets(index, output)
                    pending = next(audio, None)
                if stream.codec_context.extradata != reference:
                    raise EncodeError(
                        f"{index.path}: frames {start} to {stop - 1} were encoded with other "
                        "parameters than the frames before"
                    )
                for packet in _retimed(source, stream, index, start, stop, clock):
                    packet.stream = video
                    # Interleaved by time, as players expect.
                    at = _seconds(packet)
                    while pending is not None and _seconds(pending) <= at:
                        output.mux(pending)
                        pending = next(audio, None)
                    output.mux(packet)
        while pending is not None:
            output.mux(pending)
            pending = next(audio, None)
    _verify(str(path), index)


def _mp4_options(index: FrameIndex) -> dict[str, str]:
    """Index at the front, and a clock in which the edit list holds the start exactly."""
    clock = index.time_base.denominator
    while clock < 10_000:  # as FFmpeg's muxer chooses that of the track (libavformat/movenc.c)
        clock *= 2
    return {"movflags": "+faststart", "movie_timescale": str(clock)}


class _DecodeClock:
    """Decode time stamps: the presentation times in order, delayed by the reordering depth."""

    # x264's default of 3 B-frames with pyramid reorders by 2 frames; deeper never occurs here, and
    # a dts after its pts is an error that join_segments would report.
    DEPTH = 2

    def __init__(self, index: FrameIndex):
        pts = strictly_ascending(index.pts)
        step = int(np.median(np.diff(pts))) if len(pts) > 1 else 1
        lead = pts[0] - step * np.arange(self.DEPTH, 0, -1)
        self._dts = np.concatenate([lead, pts])
        self._next = 0

    def tick(self) -> int:
        self._next += 1
        return int(self._dts[self._next - 1])


def strictly_ascending(pts: np.ndarray) -> np.ndarray:
    """Time stamps as a container can hold them: repeated ones move up to the next free unit."""
    if len(pts) < 2 or np.all(np.diff(pts) > 0):
        return pts
    ranks = np.arange(len(pts))
    return np.maximum.accumulate(pts - ranks) + ranks


def _retimed(
    source: Any, stream: Any, index: FrameIndex, start: int, stop: int, clock: _DecodeClock
) -> Iterator[Any]:
    packets = [packet for packet in source.demux(stream) if packet.size]
    if len(packets) != stop - start:
        raise EncodeError(
            f"{index.path}: frames {start} to {stop - 1} were encoded as {len(packets)} frames "
            f"instead of {stop - start}"
        )
    ranks = np.argsort(np.argsort([packet.pts for packet in packets])) + start
    pts = strictly_ascending(index.pts)
    last = max(1, round(1 / (index.rate * index.time_base)))
    durations = np.append(np.diff(pts), last)
    for packet, rank in zip(packets, ranks, strict=True):
        packet.pts, packet.dts = int(pts[rank]), clock.tick()
        packet.duration = int(durations[rank])
        packet.time_base = index.time_base
        if packet.dts > packet.pts:
            raise EncodeError(f"{index.path}: frame {rank} is decoded after it is shown")
        yield packet


def _audio_packets(index: FrameIndex, output: Any) -> Iterator[Any]:
    """Packets of all audio streams of the source, for streams added to the output here."""
    if not index.n_audio_streams:
        return iter(())
    source = av.open(index.path)
    streams = {}
    for stream in source.streams.audio:
        if stream.codec_context.name not in output.supported_codecs:
            log.warning(
                "%s: the audio stream %d (%s) cannot be stored in this container and is left out",
                index.path,
                stream.index,
                stream.codec_context.name,
            )
            continue
        streams[stream.index] = output.add_stream_from_template(stream)

    def packets() -> Iterator[Any]:
        with source:
            wanted = [source.streams[number] for number in streams]
            for packet in source.demux(wanted) if wanted else ():
                if packet.dts is not None and packet.size:
                    packet.stream = streams[packet.stream.index]
                    yield packet

    return packets()


def _seconds(packet: Any) -> float:
    return float(packet.dts * packet.time_base)


def shown_times(path: str | os.PathLike[str]) -> list[Fraction]:
    """When the frames of a video are shown, in seconds, ascending."""
    with av.open(os.fspath(path)) as container:
        stream = container.streams.video[0]
        unit = stream.time_base or Fraction(1)
        return sorted(
            int(packet.pts or 0) * unit for packet in container.demux(stream) if packet.size
        )


def _verify(path: str, index: FrameIndex) -> None:
    times = shown_times(path)
    expected = [int(pts) * index.time_base for pts in strictly_ascending(index.pts)]
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
