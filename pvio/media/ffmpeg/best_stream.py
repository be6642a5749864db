"""Choose the video stream of a container."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from av.stream import Disposition

from pvio.errors import UnreadableVideo
from pvio.media.ffmpeg.log import LogMessage

# FFmpeg's message about a stream without a decoder: stream number, codec, tag if any.
_WITHOUT_DECODER = re.compile(r"codec parameters for stream (\d+) \(\w+: (\w+)(?: \((.{4}) / )?")
# The message of its Matroska demuxer, which has no tags.
_MATROSKA = re.compile(r"Unknown/unsupported AVCodecID (\S+?)\.?\s*$")


def video_stream(path: str, container: Any, messages: Iterable[LogMessage]) -> Any:
    """FFmpeg's best video stream; cover pictures and thumbnails do not count.

    Args:
        path: the file.
        container: the file, just opened.
        messages: logged by FFmpeg while it was opened.

    Raises:
        UnreadableVideo: if there is none, or none that can be decoded.
    """
    videos = [each for each in container.streams.video if not _is_attached(each)]
    if not videos:
        raise UnreadableVideo(path, "the file has no video stream")
    decodable = [each for each in videos if each.codec_context is not None]
    if not decodable:
        codec = _codec(videos[0].index, messages)
        raise UnreadableVideo(path, f"FFmpeg has no decoder for its video stream{codec}")
    best = container.streams.best("video")
    if any(best is each for each in decodable):
        return best
    return max(decodable, key=lambda each: (each.width * each.height, -each.index))


def _is_attached(stream: Any) -> bool:
    """Whether a stream is a cover picture, or the thumbnails of chapters."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _codec(stream_index: int, messages: Iterable[LogMessage]) -> str:
    """The codec or codec tag of a stream, in parentheses; "" if not known."""
    codec = ""
    for _, _, text in messages:
        if found := _MATROSKA.search(text):
            codec = f" (codec {found[1]})"
        found = _WITHOUT_DECODER.search(text)
        if found and int(found[1]) == stream_index:
            if found[3]:
                return f" (codec tag {found[3]!r})"
            return codec if found[2] == "none" else f" (codec {found[2]})"
    return codec
