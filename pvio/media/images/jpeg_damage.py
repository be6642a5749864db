"""Damage of JPEG files that Pillow ignores.

Pillow hides libjpeg's warnings about invalid or missing codes. FFmpeg's decoder logs them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import av
import av.error

from pvio.media.ffmpeg.log import capture_log
from pvio.media.images.jpeg_segments import lacks_end_marker

# FFmpeg's messages about invalid codes in a scan (mjpegdec.c). Others do not count: a type of JPEG
# that FFmpeg does not support is not damaged.
_BAD_SCAN = ("error y=", "error count", "mjpeg_decode_dc: bad vlc", "overread", "error dc", "ZRL ")


def jpeg_damage(path: str | os.PathLike[str]) -> str:
    """Description of damage in the pixel data of a JPEG file; "" if none is found.

    Not all damage can be found: damaged codes may be valid by chance. The check takes a third of
    the time of decoding with Pillow.

    Args:
        path: of an image file; other formats than JPEG are not checked.
    """
    with Path(path).open("rb") as file:
        start = file.read(2)
        if start != b"\xff\xd8":
            return ""
        data = start + file.read()
    if lacks_end_marker(data):
        return "it breaks off: the marker of its end is missing"
    return data_damage(data)


def data_damage(data: bytes) -> str:
    """`jpeg_damage` of the content of a file, which may lack its end marker."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    # One sample of each block of 8×8: the codes are read all the same.
    decoder.options = {"lowres": "3"}
    with capture_log() as messages, contextlib.suppress(av.error.FFmpegError):
        decoder.decode(av.Packet(data))
    found = [text.strip() for _, _, text in messages if text.startswith(_BAD_SCAN)]
    return f"its data are damaged ({found[0]})" if found else ""
