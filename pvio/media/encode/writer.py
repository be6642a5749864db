"""Write a video frame by frame, as close to its source as the encoder allows."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from pvio.cache.atomic import atomic_path
from pvio.config.codecs import CodecName
from pvio.config.output import OutputSettings
from pvio.config.settings import parse_settings
from pvio.errors import ConfigError, EncodeError
from pvio.media.encode.concat import concat_segments
from pvio.media.encode.format import OutputFormat, output_format
from pvio.media.encode.planes import PlanarConverter, RgbConverter
from pvio.media.encode.segment import SegmentEncoder
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.color import BT709_LIMITED
from pvio.media.pixels.orientation import Orientation, orientation_of

_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
# Largest denominator of the fraction that replaces a rate given as a float, such as 30000/1001.
_FINEST_RATE = 1001

Frame = np.ndarray | list[np.ndarray] | av.VideoFrame


class VideoWriter:
    """Writes one video; a context manager.

    The file appears under its name when the block ends, complete and checked. An exception in the
    block leaves no file.

    With `like`, frame k has the time stamp of the source's frame k; color matrix, range,
    primaries, transfer and pixel aspect ratio are the source's; audio, metadata and chapters are
    copied.
    Without it, there are `rate` frames per second from 0 on, in BT.709, limited range.

    Args:
        path: of the video, .mp4, .m4v, .mov or .mkv. In .mkv times are rounded to milliseconds.
        like: a video or a folder of images.
        rate: frames per second, needed without `like` and not allowed with it.
        size: (height, width) of the frames; by default the source's, or that of the first frame.
        codec: "libx264", "libx265", "ffv1" (.mkv only), "h264_nvenc" or "hevc_nvenc".
        crf: quality, 0 lossless to 51 worst.
        preset: of the encoder.
        pix_fmt: "auto", "source" or a name such as "yuv420p", see docs/configuration.md.
        options: more options of the encoder, by FFmpeg's names.
        audio: whether to copy the source's audio.
        threads: of the encoder; 0 for as many as there are cores. x264 and x265 give the same bytes
            everywhere with 1 only.

    Raises:
        ConfigError: if arguments contradict each other.
        UnreadableVideo: if `like` cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        like: str | os.PathLike[str] | None = None,
        *,
        rate: float | Fraction | None = None,
        size: tuple[int, int] | None = None,
        codec: CodecName = "libx264",
        crf: int = 18,
        preset: str = "medium",
        pix_fmt: str = "auto",
        options: dict[str, str | int | float] | None = None,
        audio: bool = True,
        threads: int = 0,
    ):
        self._path = Path(path)
        self._settings = _settings(
            self._path,
            codec=codec,
            crf=crf,
            preset=preset,
            pix_fmt=pix_fmt,
            options=options or {},
        )
        if like is not None and rate is None:
            self._index = load_index(like)
        elif like is None and rate is not None:
            self._index = _plain_index(path, rate)
        else:
            raise ConfigError("VideoWriter needs either like, a source, or rate")
        self._has_source, self._audio, self._threads = like is not None, audio, threads
        if size is None and self._has_source:
            size = (self._index.height, self._index.width)
        self._size = size
        self._n = 0
        self._resources = contextlib.ExitStack()
        self._file: Any = None
        self._planar: dict[Orientation, PlanarConverter] = {}
        self._encoder: SegmentEncoder | None = None

    def write(self, frame: Frame) -> None:
        """Encode the next frame.

        Args:
            frame: uint8 H×W×3 (RGB) or H×W (gray); Y, U and V planes of the pixel format that is
                written, uint8, or uint16 for more than 8 bits; or a decoded frame. A decoded frame
                is rotated if it has a display matrix, and converted if its matrix or range is not
                the video's.

        Raises:
            EncodeError: if it has another size, shape or type, or if there are more frames than in
                the source.
        """
        if self._has_source and self._n >= self._index.n_frames:
            raise EncodeError(
                f"{self._path}: frame {self._n + 1} for the {self._index.n_frames} frames of "
                f"{self._index.path}"
            )
        turned = orientation_of(frame) if isinstance(frame, av.VideoFrame) else Orientation()
        size = turned.upright_size(*_size(frame))
        if self._encoder is None:
            self._open(self._size or size)
        assert self._encoder is not None
        output = self._encoder.output
        if size != (output.height, output.width):
            is_turned = (size[1], size[0]) == (output.height, output.width)
            raise EncodeError(
                f"{self._path}: frame {self._n} is {size[0]}×{size[1]}, the video "
                f"{output.height}×{output.width}"
                + (": it is rotated for display" if is_turned else "")
            )
        if isinstance(frame, av.VideoFrame):
            if turned not in self._planar:
                self._planar[turned] = PlanarConverter(output, turned, foreign=True)
            planes = self._planar[turned](frame)
        elif isinstance(frame, list):
            _check_planes(frame, output)
            planes = frame
        else:
            planes = self._convert(frame)
        pts = int(self._index.pts[self._n]) if self._has_source else self._n
        self._encoder.write(planes, pts)
        self._n += 1

    def _open(self, size: tuple[int, int]) -> None:
        if self._file is None:
            raise EncodeError(f"{self._path}: use VideoWriter in a 'with' block")
        output = output_format(self._index, self._settings, size)
        self._encoder = SegmentEncoder(self._file, output, self._settings, self._threads)
        self._convert = RgbConverter(output)

    def _finish(self, temporary: Path) -> None:
        index = self._index
        if self._has_source and self._n != index.n_frames:
            raise EncodeError(
                f"{self._path}: {self._n} frames for the {index.n_frames} frames of {index.path}"
            )
        if self._encoder is None or self._file is None:
            raise EncodeError(f"{self._path}: no frame was written")
        if not self._has_source:
            numbers = np.arange(self._n, dtype=np.int64)
            index = replace(index, pts=numbers, keyframes=numbers[:1])
        self._encoder.close()
        self._file.seek(0)
        concat_segments(
            [(0, self._n, self._file)],
            index,
            temporary,
            audio=self._audio and self._has_source,
            metadata=self._has_source,
        )

    def __enter__(self) -> VideoWriter:
        self._temporary = self._resources.enter_context(atomic_path(self._path))
        # Has no name, so that it disappears with its process.
        self._file = self._resources.enter_context(tempfile.TemporaryFile(dir=self._path.parent))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            self._finish(self._temporary)


def _settings(path: Path, **output: Any) -> OutputSettings:
    settings = parse_settings({"output": output}, source="VideoWriter").output
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(f"{path}: VideoWriter writes {', '.join(_SUFFIXES)}, not '{suffix}'")
    if settings.suffix == ".mkv" != suffix:
        raise ConfigError(f"{path}: {settings.codec} goes into .mkv")
    return settings


def _plain_index(path: str | os.PathLike[str], rate: float | Fraction) -> FrameIndex:
    """Index of a video without a source: a steady rate, BT.709, square pixels."""
    exact = Fraction(rate).limit_denominator(_FINEST_RATE)
    if exact <= 0:
        raise ConfigError(f"{path}: rate is {rate}; expected frames per second above 0")
    return FrameIndex(
        path=os.fspath(path),
        content_digest="",
        pts=np.empty(0, np.int64),
        keyframes=np.empty(0, np.int64),
        time_base=1 / exact,
        average_rate=exact,
        height=0,
        width=0,
        orientation=Orientation(),
        stream_index=0,
        codec="rawvideo",
        pix_fmt="rgb24",
        container="",
        sample_aspect_ratio=Fraction(1),
        color=BT709_LIMITED,
        n_audio_streams=0,
    )


def _size(frame: Frame) -> tuple[int, int]:
    """(height, width) of a frame, whose type and shape are checked.

    Raises:
        EncodeError: if it cannot be written.
    """
    if isinstance(frame, av.VideoFrame):
        return frame.height, frame.width
    if isinstance(frame, list) and len(frame) == 3 and all(p.ndim == 2 for p in frame):
        return frame[0].shape
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8:
        is_gray = frame.ndim == 2 or frame.shape[2:] == (1,)
        if is_gray or frame.shape[2:] == (3,):
            return frame.shape[:2]
    got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)
    raise EncodeError(
        "a frame must be uint8 H×W×3 or H×W, a list of Y, U and V planes, or a decoded frame; "
        f"got {got}"
    )


def _check_planes(planes: list[np.ndarray], output: OutputFormat) -> None:
    dtype = np.dtype(np.uint8 if output.bit_depth == 8 else "<u2")
    for name, plane, shape in zip("YUV", planes, output.shapes, strict=True):
        if plane.shape != shape or plane.dtype != dtype:
            raise EncodeError(
                f"plane {name} is {plane.dtype} {plane.shape}; {output.pix_fmt} needs {dtype} "
                f"{shape}"
            )
