"""Frames in memory to a video file, by the program FFmpeg."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg
import numpy as np

if sys.platform == "linux":
    import fcntl

_PIXEL_FORMATS = {1: "gray", 2: "ya8", 3: "rgb24", 4: "rgba"}
# Encoders that refuse odd sides with 4:2:0 chroma; the others round the chroma planes up.
_EVEN_ONLY = ("264", "hevc", "265")
# Floats may exceed [0, 1] by as much as does not change the rounded gray level.
_TOLERANCE = 0.5 / 255
# What Linux allows every user.
_PIPE_BYTES = 2**20


def checked_frames(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames as uint8, each of the first one's size and channels.

    Args:
        frames: H×W or H×W×C with 1 to 4 channels: integers, or floats in [0, 1].

    Raises:
        ValueError: at a frame that has no pixels, another shape than the first one, or a type or
            values that cannot be converted.
    """
    shape: tuple[int, ...] | None = None
    for i, frame in enumerate(frames):
        frame = np.asarray(frame)
        if shape is None:
            shape = frame.shape
            if frame.ndim not in (2, 3) or (frame.ndim == 3 and shape[2] not in _PIXEL_FORMATS):
                hint = "; of C×H×W make `frame.transpose(1, 2, 0)`" if shape[:1] == (3,) else ""
                raise ValueError(
                    f"frames must be H×W×C with 1 to 4 channels, got shape {shape}{hint}"
                )
            if frame.size == 0:
                raise ValueError(f"frames must have at least one pixel, got shape {shape}")
        if frame.shape[:2] != shape[:2]:
            raise ValueError(
                "All frames must have the same dimensions. Frame 0 has size (height, width) "
                f"{shape[:2]}, but frame {i} has {frame.shape[:2]}."
            )
        if frame.shape != shape:
            raise ValueError(f"frame 0 has the shape {shape}, but frame {i} has {frame.shape}")
        yield frame if frame.dtype == np.uint8 else _as_uint8(frame, i)


def _as_uint8(frame: np.ndarray, i: int) -> np.ndarray:
    """A frame in 8 bits, by a scale that depends on its type and not on its values.

    imageio, which 0.1.3 called, stretches each frame between its own extremes instead.

    Raises:
        ValueError: for other types, and for values out of range.
    """
    if frame.dtype.kind == "u" and frame.dtype.itemsize == 2:  # of either byte order
        return (frame >> 8).astype(np.uint8)
    if frame.dtype.kind not in "iuf":
        advice = "; write `frame.astype(np.uint8) * 255`" if frame.dtype == bool else ""
        raise ValueError(f"frame {i} is of {frame.dtype}; integers or floats are expected{advice}")
    low, high = frame.min(), frame.max()
    if frame.dtype.kind == "f":
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # also when one is NaN
            raise ValueError(
                f"frame {i} ({frame.dtype}) has values from {low} to {high}; floats must lie in"
                " [0, 1]. Divide by the largest possible value, or make uint8 frames"
            )
        scaled = np.clip(frame, 0, 1).astype(np.float64)
        rounded: np.ndarray = (scaled * 255 + 0.499999999).astype(np.uint8)  # as imageio
        return rounded
    if low < 0 or high > 255:
        raise ValueError(
            f"frame {i} ({frame.dtype}) has values from {low} to {high}; integers must be in 0 to"
            " 255. Scale them and make uint8 frames"
        )
    return frame.astype(np.uint8)


def exact_rate(fps: Any) -> Fraction:
    """Frames per second as FFmpeg takes them.

    Raises:
        ValueError: when `fps` is not a positive number.
    """
    rate = Fraction(0)
    if isinstance(fps, numbers.Real | Decimal) and not isinstance(fps, bool) and math.isfinite(fps):
        exact = Fraction(fps) if isinstance(fps, numbers.Rational | Decimal) else float(fps)
        rate = Fraction(exact).limit_denominator(1_000_000)
    if rate <= 0:
        raise ValueError(f"fps must be a positive number, got {fps!r}")
    return rate


def encode_command(
    target: Path, frame: np.ndarray, rate: Fraction, codec: str, params: Sequence[str]
) -> list[str]:
    """FFmpeg's command line that encodes raw frames from its standard input to a file.

    Args:
        target: file to write.
        frame: one of the frames.
        rate: frames per second.
        codec: name of an FFmpeg encoder.
        params: more options of the output.
    """
    height, width = frame.shape[:2]
    params = list(params or ())
    pixel_format = "yuv420p"
    if (height % 2 or width % 2) and any(name in codec for name in _EVEN_ONLY):
        pixel_format = "yuv444p"
        if "-pix_fmt" not in params and "264" in codec:
            params = [*_without_profile(params), "-profile:v", "high444"]
    source = _PIXEL_FORMATS[1 if frame.ndim == 2 else frame.shape[2]]
    return [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", "-v", "error"),
        *("-f", "rawvideo", "-s", f"{width}x{height}", "-pix_fmt", source, "-r", str(rate)),
        *("-i", "-", "-an", "-vcodec", codec, "-pix_fmt", pixel_format),
        *params,
        os.path.abspath(target),
    ]


def pipe_to_ffmpeg(command: Sequence[str], frames: Iterable[np.ndarray]) -> str:
    """Run FFmpeg and write frames to its standard input.

    Returns:
        The reason why FFmpeg failed, in its own words; "" when it did not.
    """
    is_complete = False
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as process:
            pipe = process.stdin
            assert pipe is not None
            _widen(pipe)
            try:
                for frame in frames:
                    pipe.write(np.ascontiguousarray(frame).data)
                pipe.close()
                is_complete = True
            except BrokenPipeError:
                pass  # FFmpeg has ended; its message has the reason
            except BaseException:
                process.kill()
                raise
            finally:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if process.returncode == 0 and is_complete:
            return ""
        messages.seek(0)
        text = messages.read().decode(errors="replace").strip()
        return text or f"it ended with code {process.returncode} before the last frame"


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold more than 64 KiB, where the system can: frames cross it in fewer pieces."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _without_profile(params: list[str]) -> list[str]:
    """The options without a profile that excludes 4:4:4 chroma."""
    kept: list[str] = []
    rest = iter(params)
    for option in rest:
        if option in ("-profile:v", "-profile"):
            next(rest, None)
        else:
            kept.append(option)
    return kept
