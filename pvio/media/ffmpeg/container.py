"""Open a file for reading, and no other file or network address."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

import av

from pvio.errors import UnreadableVideo
from pvio.media.ffmpeg.log import capture_log

_NAME_THEM = "it is {}, which refers to other files: name those files in `videos` instead"
# FFmpeg's demuxers that open other files, the network or a device, with an error message each. The
# content digest of a video covers its own bytes only.
_REFUSED = {
    "concat": _NAME_THEM.format("a playlist (ffconcat)"),
    "hls": _NAME_THEM.format("a playlist (HLS, .m3u8)"),
    "dash": _NAME_THEM.format("a playlist (DASH)"),
    "webm_dash_manifest": _NAME_THEM.format("a playlist (WebM DASH)"),
    "imf": _NAME_THEM.format("a composition playlist (IMF)"),
    "vobsub": _NAME_THEM.format("an index of subtitles (VobSub)"),
    "avisynth": "it is a script (AviSynth): render it to a video first",
    "vapoursynth": "it is a script (VapourSynth): render it to a video first",
    "lavfi": "it is a description of a filter graph (lavfi): render it to a video first",
    "mlv": "recordings of Magic Lantern span several files: convert it to another format first",
    "image2": "FFmpeg takes its name for a pattern of image files ('%'): rename it",
    "sdp": "it describes a network stream (SDP): record the stream to a file first",
    "rtsp": "it describes a network stream (RTSP): record the stream to a file first",
    "rtp": "it describes a network stream (RTP): record the stream to a file first",
    "sap": "it describes a network stream (SAP): record the stream to a file first",
    "dvdvideo": "it is a DVD: copy its titles to files first",
    "bluray": "it is a Blu-ray disc: copy its titles to files first",
}
_DEVICES = (
    "alsa", "android_camera", "avfoundation", "decklink", "dshow", "fbdev", "gdigrab", "iec61883",
    "jack", "kmsgrab", "libcdio", "libdc1394", "openal", "oss", "pulse", "sndio", "v4l", "v4l2",
    "vfwcap", "video4linux2", "x11grab", "xcbgrab",
)  # fmt: skip
_NOT_LISTED = "Format not on whitelist"


def open_container(file: Any, **options: Any) -> av.container.InputContainer:
    """Open a video file for reading, by path or as a binary file.

    Names are never interpreted as protocols or patterns. Formats that refer to other files are
    refused, so that FFmpeg cannot read files or servers that the user did not name. Bytes of the
    metadata that are not UTF-8 become surrogates.

    Args:
        file: a path, absolute or relative, or an open binary file.
        options: those of `av.open`.

    Raises:
        UnreadableVideo: if the format refers to other files.
        OSError, av.error.FFmpegError: if the file cannot be opened.
    """
    target = file if hasattr(file, "read") else absolute_path(file)
    limits = {"protocol_whitelist": "file", "format_whitelist": _formats()}
    try:
        container: av.container.InputContainer = av.open(
            target, metadata_errors="surrogateescape", container_options=limits, **options
        )
        return container
    except av.error.ArgumentError as error:
        if isinstance(target, str) and (reason := _refused_format(target, limits)):
            raise UnreadableVideo(file, reason) from error
        raise


def absolute_path(path: str | os.PathLike[str]) -> str:
    """A path that FFmpeg takes for a file, also if its name contains a colon or starts with a dash.

    FFmpeg looks for `protocol:` only before the first slash (libavformat/avio.c, `url_find`), and
    its options start with a dash.
    """
    return os.path.abspath(os.fsdecode(path))


def refusal_reason(demuxer: str) -> str:
    """The reason why files of this FFmpeg demuxer are refused."""
    return _REFUSED[demuxer]


@functools.cache
def _formats() -> str:
    """Comma-separated names of the demuxers that read only the file that they are given."""
    refused = {*_REFUSED, *_DEVICES}
    names = sorted(name for name in av.formats_available if not refused & {*name.split(",")})
    return ",".join(names)


def _refused_format(path: str, limits: dict[str, str]) -> str:
    """The reason why the format of a file is refused; "" if it is not.

    FFmpeg's message names the format (libavformat/demux.c, `avformat_open_input`). Only the first
    bytes of the file are read.
    """
    with capture_log() as messages, contextlib.suppress(OSError, av.error.FFmpegError):
        av.open(path, container_options=limits).close()
    names = [name for _, name, text in messages if _NOT_LISTED in text]
    if not names:
        return ""
    return _REFUSED.get(names[0].split(",")[0], f"the format {names[0]} is not supported")
