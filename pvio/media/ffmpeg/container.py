"""Opening a file for reading, and nothing but this file."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

import av

from pvio.errors import UnreadableVideo
from pvio.media.ffmpeg.log import capture_log

_NAME_THEM = "it is {}, which refers to other files: name those files in `videos` instead"
# FFmpeg's demuxers that open other files than the one that they are given, or the network, or a
# device, each with what to say. The content key of a video covers its own bytes only.
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
    """Open a video file by path, or a binary file, whatever its metadata are encoded in.

    No name is taken for a protocol or a pattern, and formats that refer to other files are refused:
    FFmpeg would read files, or ask servers, that nobody has named. Bytes of the metadata that are
    no UTF-8 come as surrogates.

    Args:
        file: a path, absolute or relative, or an open binary file.
        options: those of `av.open`.

    Raises:
        UnreadableVideo: when the format refers to other files.
        OSError, av.error.FFmpegError: when the file cannot be opened.
    """
    target = file if hasattr(file, "read") else absolute_path(file)
    limits = {"protocol_whitelist": "file", "format_whitelist": _formats()}
    try:
        return av.open(
            target, metadata_errors="surrogateescape", container_options=limits, **options
        )
    except av.error.ArgumentError as error:
        if isinstance(target, str) and (reason := _refused_format(target, limits)):
            raise UnreadableVideo(file, reason) from error
        raise


def absolute_path(path: str | os.PathLike[str]) -> str:
    """A path that FFmpeg takes for a file, whatever its name looks like.

    FFmpeg looks for `protocol:` only before the first slash (libavformat/avio.c, `url_find`), and
    its options begin with a dash.
    """
    return os.path.abspath(os.fsdecode(path))


def refusal_reason(demuxer: str) -> str:
    """Why files that this demuxer of FFmpeg's reads are refused."""
    return _REFUSED[demuxer]


@functools.cache
def _formats() -> str:
    """Names of the demuxers that read their own bytes only, as FFmpeg's options list them."""
    refused = {*_REFUSED, *_DEVICES}
    names = sorted(name for name in av.formats_available if not refused & {*name.split(",")})
    return ",".join(names)


def _refused_format(path: str, limits: dict[str, str]) -> str:
    """Why the format of a file is refused; "" when that is not what is wrong with it.

    The message of FFmpeg bears the name of the format (libavformat/demux.c,
    `avformat_open_input`); nothing is read but the first bytes of the file.
    """
    with capture_log() as messages, contextlib.suppress(OSError, av.error.FFmpegError):
        av.open(path, container_options=limits).close()
    names = [name for _, name, text in messages if _NOT_LISTED in text]
    if not names:
        return ""
    return _REFUSED.get(names[0].split(",")[0], f"the format {names[0]} is not supported")
