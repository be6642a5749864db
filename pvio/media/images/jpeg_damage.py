"""Damage of JPEG files that Pillow passes over.

Pillow hides what libjpeg says of codes that are wrong or run out. FFmpeg's decoder tells.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import av
import av.error

from pvio.media.ffmpeg.log import capture_log
from pvio.media.images.jpeg_segments import lacks_end_marker

# What FFmpeg's decoder says of the codes in a scan (mjpegdec.c), and of nothing else: a kind of
# JPEG that it does not know is not damaged.
_BAD_SCAN = ("error y=", "error count", "mjpeg_decode_dc: bad vlc", "overread", "error dc", "ZRL ")


def jpeg_damage(path: str | os.PathLike[str]) -> str:
    """What is wrong with the picture data of a JPEG file, as words; "" when nothing is found.

    Not all damage can be found: what is valid code by chance decodes to another frame. This takes
    a third of the time of decoding with Pillow.

    Args:
        path: of an image file; of other formats nothing is told.
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
    """`jpeg_damage` of the content of a file, whether its end is there or not."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    # One sample of each block of 8×8: the codes are read all the same.
    decoder.options = {"lowres": "3"}
    with capture_log() as messages, contextlib.suppress(av.error.FFmpegError):
        decoder.decode(av.Packet(data))
    found = [text.strip() for _, _, text in messages if text.startswith(_BAD_SCAN)]
    return f"its data are damaged ({found[0]})" if found else ""
