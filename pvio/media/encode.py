"""Encoding a segment alone, so that segments can be joined without encoding again."""

from __future__ import annotations

import functools
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.config import OutputSettings
from pvio.errors import EncodeError
from pvio.media.index import FrameIndex
from pvio.media.orientation import Orientation
from pvio.media.picture import plane_view

# The container of a segment in the store: takes any codec and exact time stamps.
SEGMENT_FORMAT = "nut"
_LIMITED, _FULL, _BT709 = 1, 2, 1


def output_pixel_format(height: int, width: int) -> str:
    """4:2:0 plays everywhere; it cannot hold odd sizes, which therefore become 4:4:4."""
    return "yuv420p" if height % 2 == 0 and width % 2 == 0 else "yuv444p"


def output_color(index: FrameIndex) -> tuple[int, int, int, int]:
    """Range, matrix, primaries, transfer of the output: the source's; bt709 for RGB sources."""
    if index.is_image_folder or _is_rgb(index.pix_fmt):
        return (_LIMITED, _BT709, _BT709, _BT709)
    full = index.pix_fmt.startswith("yuvj")
    return (_FULL if full else index.color[0], *index.color[1:])


def _is_rgb(pix_fmt: str) -> bool:
    try:
        return bool(av.VideoFormat(pix_fmt).is_rgb) or pix_fmt == "pal8"
    except ValueError:
        return False


class SegmentEncoder:
    """Encodes upright pictures of one segment into an open file.

    Args:
        file: binary file, written from its current position.
        index: of the source video: size, time stamps, rate and colour tags come from it.
        start: rank of the segment's first frame.
        settings: codec, crf and preset.
        size: (height, width) when the pictures are not of the source's size.
    """

    def __init__(
        self,
        file: BinaryIO,
        index: FrameIndex,
        start: int,
        settings: OutputSettings,
        size: tuple[int, int] | None = None,
    ):
        self.height, self.width = size or (index.height, index.width)
        self.pixel_format = output_pixel_format(self.height, self.width)
        self._index, self._rank, self._last_pts = index, start, -(2**62)
        self._output = av.open(
            file, "w", format=SEGMENT_FORMAT, options={"avoid_negative_ts": "disabled"}
        )
        stream: Any = self._output.add_stream(settings.codec, rate=index.rate)
        stream.width, stream.height = self.width, self.height
        stream.pix_fmt = self.pixel_format
        stream.time_base = index.time_base
        context = stream.codec_context
        context.time_base = index.time_base
        context.thread_count = 1
        context.sample_aspect_ratio = upright_aspect(index)
        color = output_color(index)
        context.color_range, context.colorspace = color[0], color[1]
        context.color_primaries, context.color_trc = color[2], color[3]
        context.options = {
            "crf": str(settings.crf),
            "preset": settings.preset,
            **_repeatable_options(),
        }
        self._stream = stream

    def write(self, planes: list[np.ndarray]) -> None:
        """Encode the next frame: Y, U, V planes in `pixel_format`."""
        frame = av.VideoFrame(self.width, self.height, self.pixel_format)
        for number, plane in enumerate(planes):
            plane_view(frame, number)[...] = plane
        # Encoders want ascending time stamps; the exact ones are set when segments are joined.
        self._last_pts = max(int(self._index.pts[self._rank]), self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, self._index.time_base
        self._rank += 1
        self._mux(frame)

    def close(self) -> None:
        """Flush the encoder and end the file."""
        self._mux(None)
        self._output.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._output.mux(packet)
        except av.error.FFmpegError as error:
            raise EncodeError(f"{self._index.path}: encoding failed: {error}") from error

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


@functools.cache
def _repeatable_options() -> dict[str, str]:
    """Options that make x264 give the same bytes for the same pictures, run after run.

    Its AVX-512 code for macroblock trees does not (x264 in PyAV 18.1: 3 of 16 encodings of the
    same 60 frames differed); its AVX2 code does, at the same speed.
    """
    try:
        has_avx512 = " avx512f " in Path("/proc/cpuinfo").read_text()
    except OSError:
        has_avx512 = False
    return {"x264-params": "asm=avx2"} if has_avx512 else {}


class PlanarConverter:
    """Turns decoded frames into upright planes of the output's pixel format.

    A frame that has this format already keeps its samples bit for bit; others are converted
    within their matrix and range.

    Args:
        pixel_format: "yuv420p" or "yuv444p".
        orientation: of the source.
        color: tags of the output, see `output_color`.
    """

    def __init__(
        self, pixel_format: str, orientation: Orientation, color: tuple[int, int, int, int]
    ):
        self.pixel_format = pixel_format
        self._orientation, self._color = orientation, color
        self._reformatter = VideoReformatter()

    def __reduce__(self) -> Any:
        return PlanarConverter, (self.pixel_format, self._orientation, self._color)

    def __call__(self, frame: Any) -> list[np.ndarray]:
        """Writable, contiguous Y, U, V planes, upright.

        Args:
            frame: coded picture as decoded, or planes that this has made before.
        """
        if isinstance(frame, list):
            return frame
        if frame.format.name.replace("yuvj", "yuv") != self.pixel_format:
            is_rgb = frame.format.is_rgb
            full = _FULL if self._color[0] == _FULL else _LIMITED
            frame = self._reformatter.reformat(
                frame,
                format=self.pixel_format,
                interpolation=Interpolation.BICUBIC,
                src_color_range=_FULL if is_rgb else full,
                dst_color_range=full,
                dst_colorspace=_BT709 if is_rgb else None,
                threads=1,
            )
        return [
            np.array(self._orientation.apply(plane_view(frame, number)), order="C")
            for number in range(3)
        ]


def upright_aspect(index: FrameIndex) -> Any:
    """Sample aspect ratio of the upright picture."""
    aspect = index.sample_aspect_ratio
    return 1 / aspect if index.orientation.quarter_turns % 2 else aspect


def matrix_name(color: tuple[int, int, int, int]) -> str:
    """Name of the colour matrix; bt601 for untagged sources, which is FFmpeg's own default."""
    return {1: "bt709", 9: "bt2020", 10: "bt2020"}.get(color[1], "bt601")
