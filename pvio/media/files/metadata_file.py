"""Read and write whole videos and single frames: the functions of parallel-video-io 0.1.3."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import numbers
import operator
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence, Sized
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg
import numpy as np

from pvio.cache.atomic import atomic_path, write_json
from pvio.collection.sources import VIDEO_SUFFIXES
from pvio.errors import EncodeError, UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.decode.sampling import read_frames_at
from pvio.media.decoders.frame import suspect_warning
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

if sys.platform == "linux":
    import fcntl

logger = logging.getLogger(__name__)

DEFAULT_FFMPEG_PARAMS = (
    *("-crf", "15"),  # high quality; lower is better
    *("-preset", "slow"),  # smaller files for more time
    *("-profile:v", "high"),
    *("-level", "4.0"),
)
# The name of 0.1.3; a list, as there.
_default_ffmpeg_params_for_video_writing = list(DEFAULT_FFMPEG_PARAMS)
AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_PIXEL_FORMATS = {1: "gray", 2: "ya8", 3: "rgb24", 4: "rgba"}
# Encoders that refuse odd sides with 4:2:0 chroma; the others round the chroma planes up.
_EVEN_ONLY = ("264", "hevc", "265")
# Floats may exceed [0, 1] by as much as does not change the rounded gray level.
_TOLERANCE = 0.5 / 255
# Of a video that its cache is compared with: so many bytes from the start, the middle and the end.
_SAMPLED_BYTES = 1 << 16
# What Linux allows every user.
_PIPE_BYTES = 2**20


def read_frames_from_video(
    video_path: AnyPath, frame_indices: Iterable[int] | None = None
) -> tuple[list[np.ndarray], float]:
    """Read frames by number.

    Frames that are suspect, since damage was found in them or before them, are returned, with
    one warning in the log.

    Args:
        video_path: a video file.
        frame_indices: frame numbers, in any order, repeats allowed; None reads all frames.

    Returns:
        The frames in the order asked for, each uint8, H×W×3, RGB, upright; and the frames per
        second. `frames[k]` is frame `frame_indices[k]` exactly, by presentation time.

    Raises:
        IndexError: for a number below 0 or not below the number of frames.
        ValueError: when the file cannot be read, or a frame asked for is damaged (also when all
            are asked for: a list without it would give later frames a wrong number).
        FileNotFoundError: when there is no such file; it is a ValueError, too.
    """
    index = _index_of(video_path)
    video_path = index.path
    wanted = range(index.n_frames) if frame_indices is None else map(operator.index, frame_indices)
    numbers = list(wanted)
    for number in numbers:
        if not 0 <= number < index.n_frames:
            raise IndexError(
                f"frame {number} of {video_path}: it has frames 0 to {index.n_frames - 1}"
            )
    decoded = dict(_decoded_frames(index, sorted(set(numbers))))
    seen: set[int] = set()
    frames = []
    for number in numbers:  # a repeat is an array of its own
        frames.append(decoded[number].copy() if number in seen else decoded[number])
        seen.add(number)
    return frames, float(index.average_rate)


def write_frames_to_video(
    video_path: AnyPath,
    frames: Iterable[np.ndarray],
    fps: float,
    codec: str = "libx264",
    ffmpeg_params: Sequence[str] = DEFAULT_FFMPEG_PARAMS,
    log_interval: int | None = None,
    log_level: int = logging.INFO,
) -> None:
    """Encode frames to a video file with FFmpeg. The size of the frames is kept, whatever it is.

    H.264 and HEVC hold odd heights or widths with full chroma only: such frames are written as
    yuv444p (H.264: profile high444), all others as yuv420p, unless `ffmpeg_params` has `-pix_fmt`.
    The file appears under its name when it is complete.

    Args:
        video_path: the file to write; its ending chooses the container; its folder must exist.
        frames: sequence or iterator of arrays, H×W×C with 1 (gray), 2 (gray, alpha),
            3 (RGB) or 4 (RGB, alpha) channels, or H×W; alpha is not stored in yuv formats.
            Values become 0 to 255 by a scale that is the same for all frames: uint8 and other
            integers are taken as they are and must lie in 0 to 255; floats must lie in [0, 1]
            and are multiplied by 255; uint16 is divided by 256.
        fps: frames per second, a float or a fraction.
        codec: name of an FFmpeg encoder.
        ffmpeg_params: FFmpeg options for the output, as on its command line.
        log_interval: log `Written frame i/N` every so many frames; None logs nothing.
        log_level: level of these messages.

    Raises:
        ValueError: when there is no frame, frames differ in size, `fps` is not a positive number,
            or values are of another type or outside of the range above.
        FileNotFoundError: when the folder of `video_path` does not exist.
        EncodeError: when FFmpeg fails; the text is FFmpeg's own.
    """
    video_path = _as_path(video_path)
    rate = _rate(fps)
    if isinstance(frames, Sequence | np.ndarray):  # then nothing is written before all is checked
        for _ in _checked(frames):
            pass
    checked = _checked(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("No frames provided to write_frames_to_video")
    if not video_path.parent.is_dir():
        raise FileNotFoundError(f"The directory does not exist: {str(video_path.parent)!r}")
    total = len(frames) if isinstance(frames, Sized) else "?"
    with atomic_path(video_path) as temporary:
        command = _encode_command(temporary, first, rate, codec, ffmpeg_params)
        all_taken = False
        with tempfile.TemporaryFile() as messages:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages) as process:
                pipe = process.stdin
                assert pipe is not None
                _widen(pipe)
                try:
                    for i, frame in enumerate(itertools.chain([first], checked)):
                        pipe.write(np.ascontiguousarray(frame).data)
                        if log_interval is not None and i % log_interval == 0:
                            logger.log(log_level, "Written frame %d/%s", i + 1, total)
                    pipe.close()
                    all_taken = True
                except BrokenPipeError:
                    pass  # FFmpeg has ended; its message has the reason
                except BaseException:
                    process.kill()
                    raise
                finally:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            if process.returncode != 0 or not all_taken:
                messages.seek(0)
                text = messages.read().decode(errors="replace").strip()
                text = text.replace(str(temporary), str(video_path))
                raise EncodeError(
                    f"{video_path}: FFmpeg could not encode it with {codec}: "
                    + (text or f"it ended with code {process.returncode} before the last frame")
                )


def check_num_frames(video_path: AnyPath) -> int:
    """Number of frames of a video file, from its packets; nothing is decoded to count them.

    Raises:
        RuntimeError: when the file cannot be opened.
    """
    return _index_or_runtime_error(video_path).n_frames


def get_video_metadata(
    video_path: AnyPath,
    cache_metadata: bool = True,
    use_cached_metadata: bool = True,
    metadata_suffix: str = ".metadata.json",
) -> dict[str, Any]:
    """Number of frames, frame size and frame rate of a video file, cached next to it.

    The cache of `a.mp4` is `a.mp4.metadata.json`. It holds size, inode number, times of
    modification and of status change, and a digest of samples of the video, and is used while all
    are the same. So a video that was replaced by one of the same size and time (`cp -p`) has no
    valid cache, nor has one that was copied together with its cache; it is written again then. A
    cache that 0.1.3 wrote (`a.metadata.json`) is used while it is newer than the video, changes of
    its status included, and no other video could be meant by its name.

    Args:
        video_path: a video file.
        cache_metadata: whether to write the cache (a folder that cannot be written is no error).
        use_cached_metadata: whether to read the cache.
        metadata_suffix: what the name of the cache adds to the name of the video.

    Returns:
        `n_frames` (int), `frame_size` ((height, width) of the upright frame), `fps` (float).

    Raises:
        RuntimeError: when the video cannot be opened.
        ValueError: when the cache file is corrupt, or the cache would be the video itself, or have
            the name of one.
    """
    video_path = _as_path(video_path)
    _check_suffix(metadata_suffix)
    cache_path = video_path.with_name(video_path.name + metadata_suffix)
    if use_cached_metadata and video_path.is_file():
        cached = _read_cache(video_path, cache_path, metadata_suffix)
        if cached is not None:
            return cached
    # Taken first: a video that changes while it is read has no valid cache then.
    identity = _identity(video_path) if cache_metadata and video_path.is_file() else None
    index = _index_or_runtime_error(video_path)
    metadata = {
        "n_frames": index.n_frames,
        "frame_size": (index.height, index.width),
        "fps": float(index.average_rate),
    }
    if identity is not None:
        try:
            write_json(cache_path, metadata | identity)
        except OSError as error:
            logger.warning("The metadata of %s could not be cached: %s", video_path, error)
    return metadata


class MissingVideo(UnreadableVideo, FileNotFoundError):
    """There is no such file; 0.1.3 raised a FileNotFoundError here."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def _as_path(path: AnyPath) -> Path:
    """A path of any kind.

    Raises:
        TypeError: when it is none.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"a path is expected, got {path!r} ({type(path).__name__})")
    return Path(os.fsdecode(path))


def _index_of(video_path: AnyPath) -> FrameIndex:
    path = _as_path(video_path)
    if path.is_dir():
        raise UnreadableVideo(path, "a video file is expected, this is a folder")
    if not path.exists():
        is_home = path.parts[:1] == ("~",)
        hint = "; `~` is not expanded, use Path.expanduser()" if is_home else ""
        raise MissingVideo(path, "no such file or directory" + hint)
    return load_index(os.fspath(path))


def _index_or_runtime_error(video_path: AnyPath) -> FrameIndex:
    try:
        return _index_of(video_path)
    except UnreadableVideo as error:
        raise RuntimeError(f"Failed to open video file: {error}") from error


def _decoded_frames(index: FrameIndex, numbers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    converter = FrameConverter("rgb", index.height, index.width, index.orientation)
    reader = open_reader(index)
    n_suspect = 0
    try:
        for decoded in read_frames_at(reader, numbers):
            if decoded.pixels is None or decoded.status in ("missing", "corrupt"):
                raise UnreadableVideo(
                    index.path,
                    f"frame {decoded.number} is damaged ({decoded.status});"
                    " the other frames can be read by their numbers, see `frame_indices`",
                )
            n_suspect += decoded.status == "suspect"
            out = np.empty(converter.output_shape, np.uint8)
            converter.convert_into(decoded.pixels, out)
            yield decoded.number, out
    finally:
        reader.close()
    if n_suspect:
        logger.warning(suspect_warning(n_suspect, index.path))


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames as uint8, each of the first one's size and channels."""
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


def _rate(fps: Any) -> Fraction:
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


def _encode_command(
    target: Path, frame: np.ndarray, rate: Fraction, codec: str, params: Sequence[str]
) -> list[str]:
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


def _read_cache(video_path: Path, cache_path: Path, suffix: str) -> dict[str, Any] | None:
    """The cached metadata; None when there is none for the video as it is now."""
    if cache_path.is_file():
        stored = _parsed(cache_path, ("size", "mtime_ns"))
        identity = _identity(video_path)
        return _metadata_in(stored) if identity.items() <= stored.items() else None
    legacy_path = video_path.with_suffix(suffix) if suffix[:1] == "." else cache_path
    if legacy_path == video_path or not legacy_path.is_file():
        return None
    stored = _parsed(legacy_path, ())
    video = video_path.stat()
    # `cp -p` and `mv` keep the time of modification, not that of the status.
    is_newer = legacy_path.stat().st_mtime_ns > max(video.st_mtime_ns, video.st_ctime_ns)
    return _metadata_in(stored) if is_newer and not _namesakes(video_path) else None


def _parsed(cache_path: Path, more_keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        stored = json.loads(cache_path.read_text(encoding="utf-8"))
        known = _metadata_in(stored)
        if known["n_frames"] < 0 or not 0 < known["fps"] < math.inf:
            raise ValueError(f"impossible values: {known}")
        for key in more_keys:
            int(stored[key])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Corrupted metadata cache file {cache_path}: {error!r}; delete it to have it rebuilt"
        ) from error
    metadata: dict[str, Any] = stored
    return metadata


def _metadata_in(stored: dict[str, Any]) -> dict[str, Any]:
    height, width = map(int, stored["frame_size"])
    return {
        "n_frames": int(stored["n_frames"]),
        "frame_size": (height, width),
        "fps": float(stored["fps"]),
    }


def _identity(video_path: Path) -> dict[str, int | str]:
    """What is the same only for the very file.

    The digest covers samples only. It notices most replacements where a file system has no true
    inode numbers or times of status change.
    """
    stat = video_path.stat()
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(video_path, "rb") as file:
            for start in (0, stat.st_size // 2, max(0, stat.st_size - _SAMPLED_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLED_BYTES))
    except OSError as error:
        raise RuntimeError(f"Failed to open video file: {video_path}: {error}") from error
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
        "sample": digest.hexdigest(),
    }


def _check_suffix(suffix: str) -> None:
    """Check that the cache of a video is no video."""
    if (
        not isinstance(suffix, str)
        or not suffix
        or os.path.basename(suffix) != suffix
        or Path("a" + suffix).suffix.lower() in VIDEO_SUFFIXES
    ):
        raise ValueError(
            f"metadata_suffix must be an ending of a file name that is not of a video, such as"
            f" '.metadata.json', got {suffix!r}"
        )


def _namesakes(video_path: Path) -> bool:
    """Whether another video of the folder has the same name but for the ending."""
    return any(
        other.suffix.lower() in VIDEO_SUFFIXES and other.stem == video_path.stem
        for other in video_path.parent.iterdir()
        if other.name != video_path.name
    )
