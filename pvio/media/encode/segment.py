"""Encode segments one by one, so that they can be concatenated without re-encoding."""

from __future__ import annotations

from fractions import Fraction
from types import TracebackType
from typing import Any, BinaryIO, cast

import av
import numpy as np

from pvio.config.codecs import CODECS, CodecName
from pvio.config.output import OutputSettings
from pvio.errors import EncodeError
from pvio.media.encode.format import OutputFormat, warn_once
from pvio.media.encode.options import encoder_options
from pvio.media.ffmpeg.log import capture_log
from pvio.media.pixels.planes import planes_as_arrays

# Container of segments in the cache: supports any codec and exact time stamps.
SEGMENT_FORMAT = "nut"
# Formats in which NVENC takes samples of more than 8 bits: they are in the high bits.
_HIGH_BITS = {"yuv420p10le": "p010le", "yuv444p10le": "yuv444p16le"}
# x265 4.1 corrupts memory when it encodes 33×17 or 40×20 pixels.
_SMALLEST_X265 = 64
# Log messages of FFmpeg's wrappers of x264 and x265 about options that they ignore.
_IGNORED_OPTION_MESSAGES = ("Error parsing option", "Unknown option", "Invalid value for")


class SegmentEncoder:
    """Encodes upright frames of one segment into an open file.

    Args:
        file: binary file, written from its current position.
        output: what the frames are like.
        settings: of the encoder: `codec`, `crf`, `preset` and `options`.
        threads: of the encoder, 0 for as many as there are cores. More than one pays for a video
            that is encoded alone.

    Attributes:
        name: of the encoder, which is another than that of the settings where its hardware is
            absent.

    Raises:
        EncodeError: when the encoder does not take these settings.
    """

    def __init__(
        self, file: BinaryIO, output: OutputFormat, settings: OutputSettings, threads: int = 1
    ):
        self.output = output
        self.name: CodecName = settings.codec
        self._first_pts: int | None = None
        self._last_pts = -1
        self._frame = _blank(output)
        try:
            self._open(file, settings, threads)
        except EncodeError as error:
            other = CODECS[self.name].fallback
            if not other or error.__cause__ is None:  # it opens, but not with these options
                raise
            warn_once(
                f"{error}. {other} is used in this job instead, at the same crf and without "
                "output.options"
            )
            self.name = other
            self._open(file, settings, threads)

    def load_planes(self, planes: list[np.ndarray]) -> list[np.ndarray]:
        """Copy Y, U, V planes into the next frame.

        Returns:
            The planes of the frame itself, writable until it is encoded.
        """
        self._frame.make_writable()  # the encoder may still hold the samples of the frame before
        own = planes_as_arrays(self._frame, range(3))
        for target, plane in zip(own, planes, strict=True):
            target[...] = plane
        return own

    def encode(self, pts: int) -> None:
        """Encode the frame that was laid out last.

        Args:
            pts: timestamp in units of the output's time base. The exact ones are set when
                segments are concatenated. Here they count from the segment's first frame, and are
                increased if the one before is not less.
        """
        if self._first_pts is None:  # NUT has none below 0
            self._first_pts = pts
        self._last_pts = max(pts - self._first_pts, self._last_pts + 1)
        self._frame.pts, self._frame.time_base = self._last_pts, self.output.time_base
        self._mux(self._frame)

    def write(self, planes: list[np.ndarray], pts: int) -> None:
        """Encode these Y, U, V planes as the next frame."""
        self.load_planes(planes)
        self.encode(pts)

    def close(self) -> None:
        """Flush the encoder and end the file."""
        self._mux(None)
        self._container.close()

    def _open(self, file: BinaryIO, settings: OutputSettings, threads: int) -> None:
        output = self.output
        if self.name == "libx265" and min(output.height, output.width) < _SMALLEST_X265:
            raise EncodeError(
                f"{output.source}: libx265 crashes on frames as small as {output.width}×"
                f"{output.height}; use libx264 below {_SMALLEST_X265} pixels"
            )
        self._container = av.open(
            file, "w", format=SEGMENT_FORMAT, options={"avoid_negative_ts": "disabled"}
        )
        stream: Any = self._container.add_stream(self.name, rate=output.rate)
        stream.width, stream.height = output.width, output.height
        high = _HIGH_BITS if self.name.endswith("_nvenc") else {}
        stream.pix_fmt = high.get(output.pix_fmt, output.pix_fmt)
        stream.time_base = output.time_base
        # For the message when segments turn out not to fit.
        stream.metadata["encoder"] = self.name
        context = stream.codec_context
        context.time_base = output.time_base
        context.thread_count = threads
        context.sample_aspect_ratio = output.sample_aspect_ratio
        context.color_range, context.colorspace = output.color.color_range, output.color.colorspace
        context.color_primaries = output.color.color_primaries
        context.color_trc = output.color.color_trc
        context.options = encoder_options(self.name, settings, threads)
        with capture_log() as messages:
            try:
                context.open()
            except av.error.FFmpegError as error:
                logged = [text.strip() for level, _, text in messages if level <= av.logging.ERROR]
                raise EncodeError(
                    f"{self.name} does not open for {output.width}×{output.height} "
                    f"{output.pix_fmt}: {'; '.join(logged) or error.strerror}"
                ) from error
        errors = [f"unknown option {name}" for name in context.options]
        errors += [
            text.strip() for _, _, text in messages if text.startswith(_IGNORED_OPTION_MESSAGES)
        ]
        if errors:
            raise EncodeError(f"output.options: {self.name} reports: {'; '.join(errors)}")
        self._stream = stream

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.error.FFmpegError as error:
            raise EncodeError(f"{self.output.source}: encoding failed: {error}") from error

    def __enter__(self) -> SegmentEncoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()


def _blank(output: OutputFormat) -> av.VideoFrame:
    """A frame for the frames. FFV1 takes the shape of pixels from frames alone."""
    frame = av.VideoFrame(output.width, output.height, output.pix_fmt)
    if output.sample_aspect_ratio == 1:
        return frame
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=output.width,
        height=output.height,
        format=av.VideoFormat(output.pix_fmt),
        time_base=Fraction(1, 1000),
    )
    top = max(output.sample_aspect_ratio.numerator, output.sample_aspect_ratio.denominator)
    aspect = output.sample_aspect_ratio
    shape = graph.add("setsar", f"{aspect.numerator}/{aspect.denominator}:max={top}")
    sink = graph.add("buffersink")
    source.link_to(shape)
    shape.link_to(sink)
    graph.configure()
    frame.pts = 0
    graph.push(frame)
    shaped: av.VideoFrame = cast(Any, graph.pull())
    return shaped
