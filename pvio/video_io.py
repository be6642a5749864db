"""Read and write whole videos and single frames: the functions of parallel-video-io 0.1.3."""

from __future__ import annotations

import itertools
import json  # noqa: F401  (a name of 0.1.3's module)
import logging
import operator
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from pvio.cache.atomic import atomic_path, write_json
from pvio.errors import EncodeError, UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.decode.sampling import read_frames_at
from pvio.media.decoders.frame import suspect_warning
from pvio.media.files.ffmpeg_writer import (
    checked_frames,
    encode_command,
    exact_rate,
    pipe_to_ffmpeg,
)
from pvio.media.files.metadata_file import check_suffix, identity_of, read_metadata
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

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
    rate = exact_rate(fps)
    if isinstance(frames, Sequence | np.ndarray):  # then nothing is written before all is checked
        for _ in checked_frames(frames):
            pass
    checked = checked_frames(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("No frames provided to write_frames_to_video")
    if not video_path.parent.is_dir():
        raise FileNotFoundError(f"The directory does not exist: {str(video_path.parent)!r}")
    total = len(frames) if isinstance(frames, Sized) else "?"

    def logged() -> Iterator[np.ndarray]:
        for i, frame in enumerate(itertools.chain([first], checked)):
            yield frame
            if log_interval is not None and i % log_interval == 0:
                logger.log(log_level, "Written frame %d/%s", i + 1, total)

    with atomic_path(video_path) as temporary:
        command = encode_command(temporary, first, rate, codec, ffmpeg_params)
        if reason := pipe_to_ffmpeg(command, logged()):
            reason = reason.replace(str(temporary), str(video_path))
            raise EncodeError(f"{video_path}: FFmpeg could not encode it with {codec}: {reason}")


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
    check_suffix(metadata_suffix)
    cache_path = video_path.with_name(video_path.name + metadata_suffix)
    if use_cached_metadata and video_path.is_file():
        cached = read_metadata(video_path, cache_path, metadata_suffix)
        if cached is not None:
            return cached
    # Taken first: a video that changes while it is read has no valid cache then.
    identity = identity_of(video_path) if cache_metadata and video_path.is_file() else None
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
