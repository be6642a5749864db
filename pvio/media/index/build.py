"""Build the frame index: the frames of a video, in presentation order, from its packets.

Frame numbers are positions in this index, everywhere in pvio. No frame is decoded to count them;
one is decoded to find the display orientation.
"""

from __future__ import annotations

import os
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pvio.collection.image_names import image_files, is_image_name
from pvio.collection.sources import Source
from pvio.errors import UnreadableVideo
from pvio.media.containers.file_kind import describe_other_file
from pvio.media.containers.limits import check_declared_frames
from pvio.media.containers.structure import check_container
from pvio.media.ffmpeg.best_stream import video_stream
from pvio.media.ffmpeg.container import open_container
from pvio.media.ffmpeg.log import LogMessage, capture_log
from pvio.media.images.survey import survey_images
from pvio.media.index.content import content_digest, error_reason
from pvio.media.index.frame_geometry import display_orientation, frame_sizes, size_warning
from pvio.media.index.frame_index import FrameIndex
from pvio.media.index.packets import PacketTable, read_packets
from pvio.media.pixels.color import BT709_LIMITED, ColorTags
from pvio.media.pixels.orientation import Orientation
from pvio.media.timing.rates import DEFAULT_RATE, average_rate, is_believable

# Streams without a container: FFmpeg recognizes them by the file's ending alone.
_BY_NAME = frozenset(
    {
        *("m4v", "mjpeg", "h263", "h264", "hevc", "vvc", "evc", "mpegvideo", "obu", "vc1"),
        *("cavsvideo", "dirac", "avs2", "avs3"),
    }
)


def build_index(source: Source) -> FrameIndex:
    """Build the index of a video file, an image file or an image folder.

    Args:
        source: the video.

    Raises:
        UnreadableVideo: if the file is missing, is not a video, or has no frame.
    """
    if source.is_image_folder or is_image_name(source.path):
        return _index_images(source)
    return _index_video(source.path)


def _index_video(path: str) -> FrameIndex:
    try:
        _check_file(path)
        check_declared_frames(path)
        with capture_log() as messages, open_container(path) as container:
            return _index_container(path, container, messages)
    except MemoryError as error:
        raise UnreadableVideo(path, "its index takes more memory than there is") from error
    except OverflowError as error:
        raise UnreadableVideo(path, "its time stamps are damaged: they overflow") from error
    except (OSError, av.error.FFmpegError) as error:
        raise UnreadableVideo(path, error_reason(error, path)) from error


def _index_container(path: str, container: Any, messages: list[LogMessage]) -> FrameIndex:
    """The index of an open file; FFmpeg adds its log messages to `messages` meanwhile."""
    is_sure = container.streams.video and container.format.name not in _BY_NAME
    if not is_sure and (other := describe_other_file(path)):
        raise UnreadableVideo(path, other)
    stream: Any = video_stream(path, container, messages)
    packets = read_packets(path, container, stream)
    rows, is_timed = packets.rows, packets.pts_identify_frames
    n_corrupt = int(rows["corrupt"].sum())
    damage = check_container(path, container.format.name, messages, n_corrupt) or packets.damage
    shown = rows[~rows["discard"]]
    if len(shown) == 0:
        raise UnreadableVideo(path, "the video stream has no frame")
    order = np.argsort(shown["pts"], kind="stable")
    pts = shown["pts"][order]
    # Where time stamps do not identify the frames, decoding has to start at the first one.
    keyframes = np.flatnonzero(shown["key"][order] & is_timed)
    orientation = display_orientation(path, stream, packets.leading_packets)
    context = stream.codec_context
    sizes = frame_sizes(packets, stream).upright(orientation)
    height, width = sizes.size
    last_duration = int(shown["duration"][order[-1]]) if is_timed else 0
    rate, warning = _rate_and_warning(packets, stream, pts, last_duration)
    return FrameIndex(
        path=path,
        content_digest=content_digest(Source(path, "")),
        pts=pts,
        keyframes=np.union1d([0], keyframes).astype(np.int64),
        time_base=Fraction(stream.time_base),
        average_rate=rate,
        height=height,
        width=width,
        orientation=orientation,
        stream_index=stream.index,
        codec=context.codec.canonical_name,
        pix_fmt=sizes.pix_fmt,
        container=container.format.name,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
        color=ColorTags(
            context.color_range, context.colorspace, context.color_primaries, context.color_trc
        ),
        n_audio_streams=len(container.streams.audio),
        pts_identify_frames=is_timed,
        open_gops=_has_leading_frames(rows) or bool(rows["unclean"][1:].any()),
        last_duration=last_duration,
        damage=damage,
        other_sizes=sizes.others,
        warning="; ".join(filter(None, (warning, size_warning(sizes, len(pts))))),
    )


def _rate_and_warning(
    packets: PacketTable, stream: Any, pts: np.ndarray, last_duration: int
) -> tuple[Fraction, str]:
    """Average frames per second, and what is not plausible about the time stamps; mostly ""."""
    if packets.rate is not None:
        return Fraction(packets.rate), packets.warning
    rate = average_rate(stream, pts, last_duration)
    if is_believable(rate):
        return rate, packets.warning
    return rate, (
        f"its time stamps give {float(rate):.8g} frames per second; no camera records at this rate"
    )


def _has_leading_frames(packets: np.ndarray) -> bool:
    """Whether a keyframe but the first is followed, in decoding order, by an earlier frame."""
    positions = np.flatnonzero(packets["key"])
    if len(positions) < 2:
        return False
    group = np.cumsum(packets["key"]) - 1
    after = group > 0
    keyframe_pts = packets["pts"][positions][group[after]]
    return bool((packets["pts"][after] < keyframe_pts).any())


def _index_images(source: Source) -> FrameIndex:
    files = [source.path]
    try:
        if source.is_image_folder:
            files = image_files(source.path)
        else:
            _check_file(source.path)
    except OSError as error:
        raise UnreadableVideo(source.path, error_reason(error)) from error
    if not files:
        raise UnreadableVideo(source.path, "the folder contains no image")
    found = survey_images(source.path, files)
    pts = np.arange(found.n_frames, dtype=np.int64)
    rate, last_duration = found.rate or Fraction(DEFAULT_RATE), 0
    time_base = 1 / rate
    if found.durations:
        pts = np.cumsum([0, *found.durations[:-1]], dtype=np.int64)
        time_base, last_duration = Fraction(1, 1000), found.durations[-1]
    return FrameIndex(
        path=source.path,
        content_digest=content_digest(source),
        pts=pts,
        keyframes=np.array(found.starts, dtype=np.int64),
        time_base=time_base,
        average_rate=rate,
        height=found.height,
        width=found.width,
        orientation=Orientation(),  # each image is rotated when it is read
        stream_index=0,
        codec="images" if source.is_image_folder else "image",
        pix_fmt="gray" if found.is_gray else "rgb24",
        container=Path(files[0]).suffix.lstrip(".").lower(),
        sample_aspect_ratio=Fraction(1),
        color=BT709_LIMITED,
        n_audio_streams=0,
        last_duration=last_duration,
        damage=found.damage,
        warning=found.warning,
        pages=() if found.n_frames == len(files) else found.pages,
        other_sizes=found.other_sizes,
    )


def _check_file(path: str) -> None:
    """Reject empty files, pipes and devices.

    Raises:
        OSError: if there is no such file.
        UnreadableVideo: if it cannot be indexed.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
        raise UnreadableVideo(path, "not a regular file (pipes and devices cannot be indexed)")
    if status.st_size == 0:
        raise UnreadableVideo(path, "the file is empty")
