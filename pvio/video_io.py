"""Read and write whole videos and single frames: the functions of parallel-video-io 0.1.3."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import operator
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence, Sized
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import imageio_ffmpeg
import numpy as np
from imageio.core.util import image_as_uint

from pvio.collection import VIDEO_SUFFIXES
from pvio.errors import EncodeError, UnreadableVideo
from pvio.media.index import FrameIndex, load_index
from pvio.media.picture import Converter
from pvio.media.read import open_reader, read_ranks
from pvio.store import replacing, write_json

if sys.platform == "linux":
    import fcntl

logger = logging.getLogger(__name__)

DEFAULT_FFMPEG_PARAMS = (
    *("-crf", "15"),  # high quality; lower is better
    *("-preset", "slow"),  # smaller files for more time
    *("-profile:v", "high"),
    *("-level", "4.0"),
)
_PIXEL_FORMATS = {1: "gray", 2: "ya8", 3: "rgb24", 4: "rgba"}
# Encoders that refuse odd sides with 4:2:0 chroma; the others round the chroma planes up.
_EVEN_ONLY = ("264", "hevc", "265")
# What Linux allows every user.
_PIPE_BYTES = 2**20


def read_frames_from_video(
    video_path: Path | str, frame_indices: Iterable[int] | None = None
) -> tuple[list[np.ndarray], float]:
    """Read frames by number.

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
    """
    index = _index_of(video_path)
    wanted = range(index.n_frames) if frame_indices is None else map(operator.index, frame_indices)
    ranks = list(wanted)
    for rank in ranks:
        if not 0 <= rank < index.n_frames:
            raise IndexError(
                f"frame {rank} of {video_path}: it has frames 0 to {index.n_frames - 1}"
            )
    pictures = dict(_pictures(index, sorted(set(ranks))))
    seen: set[int] = set()
    frames = []
    for rank in ranks:  # a repeat is an array of its own
        frames.append(pictures[rank].copy() if rank in seen else pictures[rank])
        seen.add(rank)
    return frames, float(index.rate)


def write_frames_to_video(
    video_path: Path | str,
    frames: Iterable[np.ndarray],
    fps: float,
    codec: str = "libx264",
    ffmpeg_params: Sequence[str] = DEFAULT_FFMPEG_PARAMS,
    log_interval: int | None = None,
    log_level: int = logging.INFO,
) -> None:
    """Encode frames to a video file with FFmpeg. The size of the frames is kept, whatever it is.

    H.264 and HEVC hold odd heights or widths with full chroma only: such frames are written as
    yuv444p (H.264: profile high444), all others as yuv420p, unless `ffmpeg_params` says `-pix_fmt`.
    The file appears under its name when it is complete.

    Args:
        video_path: the file to write; its ending chooses the container; its folder must exist.
        frames: sequence or iterator of uint8 arrays, H×W×C with 1 (grey), 2 (grey, alpha),
            3 (RGB) or 4 (RGB, alpha) channels, or H×W; alpha is not stored in yuv formats.
        fps: frames per second, a float or a fraction.
        codec: name of an FFmpeg encoder.
        ffmpeg_params: FFmpeg options for the output, as on its command line.
        log_interval: log `Written frame i/N` every so many frames; None logs nothing.
        log_level: level of these messages.

    Raises:
        ValueError: when there is no frame, frames differ in size, or `fps` is not positive.
        FileNotFoundError: when the folder of `video_path` does not exist.
        EncodeError: when FFmpeg fails; the text is FFmpeg's own.
    """
    video_path = Path(video_path)
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
    with replacing(video_path) as temporary:
        command = _encode_command(temporary, first, fps, codec, ffmpeg_params)
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
                    pass  # FFmpeg gave up; its message says why
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


def check_num_frames(video_path: Path | str) -> int:
    """Number of frames of a video file, from its packets; nothing is decoded to count them.

    Raises:
        RuntimeError: when the file cannot be opened.
    """
    return _index_or_runtime_error(video_path).n_frames


def get_video_metadata(
    video_path: Path | str,
    cache_metadata: bool = True,
    use_cached_metadata: bool = True,
    metadata_suffix: str = ".metadata.json",
) -> dict[str, Any]:
    """Number of frames, frame size and frame rate of a video file, cached beside it.

    The cache of `a.mp4` is `a.mp4.metadata.json`. It holds size and modification time of the
    video and is used while these are unchanged. A cache that 0.1.3 wrote (`a.metadata.json`) is
    used while it is newer than the video and no other video could be meant by its name.

    Args:
        video_path: a video file.
        cache_metadata: whether to write the cache (a folder that cannot be written is no error).
        use_cached_metadata: whether to read the cache.
        metadata_suffix: what the name of the cache adds to the name of the video.

    Returns:
        `n_frames` (int), `frame_size` ((height, width) of the upright picture), `fps` (float).

    Raises:
        RuntimeError: when the video cannot be opened.
        ValueError: when the cache file is corrupt.
    """
    video_path = Path(video_path)
    cache_path = video_path.with_name(video_path.name + metadata_suffix)
    if use_cached_metadata and video_path.is_file():
        cached = _read_cache(video_path, cache_path, metadata_suffix)
        if cached is not None:
            return cached
    index = _index_or_runtime_error(video_path)
    metadata = {
        "n_frames": index.n_frames,
        "frame_size": (index.height, index.width),
        "fps": float(index.rate),
    }
    if cache_metadata:
        try:
            write_json(cache_path, metadata | _identity(video_path))
        except OSError as error:
            logger.warning("The metadata of %s could not be cached: %s", video_path, error)
    return metadata


def _index_of(video_path: Path | str) -> FrameIndex:
    if os.path.isdir(video_path):
        raise UnreadableVideo(video_path, "a video file is expected, this is a folder")
    return load_index(os.fspath(video_path))


def _index_or_runtime_error(video_path: Path | str) -> FrameIndex:
    try:
        return _index_of(video_path)
    except UnreadableVideo as error:
        raise RuntimeError(f"Failed to open video file: {error}") from error


def _pictures(index: FrameIndex, ranks: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    converter = Converter("rgb", index.height, index.width, index.orientation)
    reader = open_reader(index)
    try:
        for decoded in read_ranks(reader, ranks):
            if decoded.picture is None or decoded.status in ("missing", "corrupt"):
                raise UnreadableVideo(
                    index.path,
                    f"frame {decoded.rank} is damaged ({decoded.status});"
                    " the other frames can be read by their numbers, see `frame_indices`",
                )
            out = np.empty(converter.shape, np.uint8)
            converter.into(decoded.picture, out)
            yield decoded.rank, out
    finally:
        reader.close()


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames as uint8, each of the first one's size and channels."""
    shape: tuple[int, ...] | None = None
    for i, frame in enumerate(frames):
        frame = np.asarray(frame)
        if shape is None:
            shape = frame.shape
            if frame.ndim not in (2, 3) or (frame.ndim == 3 and shape[2] not in _PIXEL_FORMATS):
                raise ValueError(f"frames must be H×W×C with 1 to 4 channels, got shape {shape}")
        if frame.shape[:2] != shape[:2]:
            raise ValueError(
                "All frames must have the same dimensions. Frame 0 has size (height, width) "
                f"{shape[:2]}, but frame {i} has {frame.shape[:2]}."
            )
        if frame.shape != shape:
            raise ValueError(f"frame 0 has the shape {shape}, but frame {i} has {frame.shape}")
        yield frame if frame.dtype == np.uint8 else image_as_uint(frame, bitdepth=8)


def _encode_command(
    target: Path, frame: np.ndarray, fps: float, codec: str, params: Sequence[str]
) -> list[str]:
    height, width = frame.shape[:2]
    rate = Fraction(fps).limit_denominator(1_000_000) if 0 < fps < float("inf") else Fraction(0)
    if rate <= 0:
        raise ValueError(f"fps must be a positive number, got {fps}")
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
    """What the cache says, None when there is none for the video as it is now."""
    if cache_path.is_file():
        stored = _parsed(cache_path, ("size", "mtime_ns"))
        identity = _identity(video_path)
        return _metadata_in(stored) if identity.items() <= stored.items() else None
    legacy_path = video_path.with_suffix(suffix) if suffix[:1] == "." else cache_path
    if legacy_path == video_path or not legacy_path.is_file():
        return None
    stored = _parsed(legacy_path, ())
    is_newer = legacy_path.stat().st_mtime_ns > video_path.stat().st_mtime_ns
    return _metadata_in(stored) if is_newer and not _namesakes(video_path) else None


def _parsed(cache_path: Path, more_keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        stored = json.loads(cache_path.read_text(encoding="utf-8"))
        _metadata_in(stored)
        for key in more_keys:
            int(stored[key])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Corrupted metadata cache file {cache_path}: {error!r}; delete it to have it rebuilt"
        ) from error
    return stored


def _metadata_in(stored: dict[str, Any]) -> dict[str, Any]:
    height, width = map(int, stored["frame_size"])
    return {
        "n_frames": int(stored["n_frames"]),
        "frame_size": (height, width),
        "fps": float(stored["fps"]),
    }


def _identity(video_path: Path) -> dict[str, int]:
    facts = video_path.stat()
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _namesakes(video_path: Path) -> bool:
    """Whether another video of the folder has the same name but for the ending."""
    return any(
        other.suffix.lower() in VIDEO_SUFFIXES and other.stem == video_path.stem
        for other in video_path.parent.iterdir()
        if other.name != video_path.name
    )
