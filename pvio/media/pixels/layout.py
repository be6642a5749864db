"""Positions of the luma samples of a frame, for every pixel format of FFmpeg that has some.

They are those of libavutil/pixdesc.c (FFmpeg 8), of which PyAV gives depth, plane and byte order
only.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import av
import numpy as np

# Formats with other samples next to luma in their first plane: bytes from one luma sample to the
# next, bytes before the first, bits below the lowest of it.
_PACKED = {
    "yuyv422": (2, 0, 0),
    "yvyu422": (2, 0, 0),
    "uyvy422": (2, 1, 0),
    "ayuv": (4, 1, 0),
    "uyva": (4, 1, 0),
    "vuya": (4, 2, 0),
    "vuyx": (4, 2, 0),
    "vyu444": (3, 1, 0),
    "ya8": (2, 0, 0),
    "ya16": (4, 0, 0),
    "ayuv64": (8, 2, 0),
    "y210": (4, 0, 6),
    "y212": (4, 0, 4),
    "y216": (4, 0, 0),
    "xv36": (8, 2, 4),
    "xv48": (8, 2, 0),
}
# Three samples of 10 bits in a word of 32: bits below luma.
_IN_WORDS = {"xv30": 10, "v30x": 12}
# U Y Y V Y Y: bytes of the luma samples of four pixels.
_UYYVYY, _UYYVYY_LUMA = "uyyvyy411", (1, 2, 4, 5)
_PLANAR = re.compile(r"^(yuv[aj]?4\d\dp\d*(msb)?|gray\d*|nv\d\d|p[0-4]1[0-9])$")
# Of these, the ones that keep their samples in the high bits of 16.
_HIGH_BITS = re.compile(r"^p[0-4]1[0-9]$|msb$")
_FLOAT = re.compile(r"^(gray|ya)f(16|32)(be|le)$")


class LumaLayout(NamedTuple):
    """Luma samples in the first plane of a frame.

    Attributes:
        dtype: of the words with one sample each, in the byte order of the file.
        step: bytes from one word to the next.
        offset: bytes before the first word of a line.
        shift: bits of a word below the sample.
        depth: bits of a sample.
    """

    dtype: np.dtype
    step: int
    offset: int
    shift: int
    depth: int


@functools.cache
def luma_layout(pix_fmt: str) -> LumaLayout | None:
    """Layout of the luma of a pixel format.

    Returns:
        None where luma is not stored as whole numbers in words of their own: RGB, palettes, single
        bits, floating point, CIE XYZ, and `uyyvyy411`, whose samples are not evenly spaced.
    """
    try:
        form = av.VideoFormat(pix_fmt)
    except ValueError:
        return None
    name = re.sub("(le|be)$", "", pix_fmt)
    if name not in _PACKED and name not in _IN_WORDS and not _PLANAR.match(name):
        return None
    depth = form.components[0].bits
    size = 4 if name in _IN_WORDS or depth > 16 else 2 if depth > 8 else 1
    dtype = np.dtype(f"{'>' if form.is_big_endian else '<'}u{size}")
    if name in _IN_WORDS:
        return LumaLayout(dtype, 4, 0, _IN_WORDS[name], depth)
    step, offset, shift = _PACKED.get(name, (size, 0, 16 - depth if _HIGH_BITS.search(name) else 0))
    return LumaLayout(dtype, step, offset, shift, depth)


def luma_samples(frame: av.VideoFrame) -> np.ndarray | None:
    """Luma of a frame as coded, H×W, uint8 for up to 8 bits, else uint16 or uint32.

    Returns:
        A view of the frame where its samples need no change; None where it has no luma samples.
    """
    name, plane = frame.format.name, frame.planes[0]
    if name == _UYYVYY:
        groups = -(-frame.width // 4)
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : frame.height
        ]
        pixels = rows[:, : 6 * groups].reshape(frame.height, groups, 6)[:, :, _UYYVYY_LUMA]
        return pixels.reshape(frame.height, -1)[:, : frame.width]
    layout = luma_layout(name)
    if layout is None:
        return None
    words = _words(frame, layout)
    if layout.dtype.itemsize == 1:
        return words
    if layout.shift or not layout.dtype.isnative:
        words = words.astype(layout.dtype.newbyteorder("="), copy=False)
        words = (words >> layout.shift) & ((1 << layout.depth) - 1)
    return words.astype(np.uint16, copy=False) if layout.depth <= 16 else words


def luma_bytes(frame: av.VideoFrame) -> np.ndarray | None:
    """The 8 high bits of `luma_samples`, uint8; of floating point, 0 to 1 become 0 to 255.

    Returns:
        May be a view of the frame; None where it has no luma samples.
    """
    name = frame.format.name
    if found := _FLOAT.match(name):
        size = int(found[2]) // 8
        kind = np.dtype(f"{'>' if found[3] == 'be' else '<'}f{size}")
        step = size * (2 if found[1] == "ya" else 1)
        values = _words(frame, LumaLayout(kind, step, 0, 0, 8 * size)).astype(np.float32)
        return np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255).astype(np.uint8)
    layout = luma_layout(name)
    if layout is None:
        return luma_samples(frame)
    words = _words(frame, layout)
    if layout.dtype.itemsize == 1:
        return words
    return (words >> (layout.shift + layout.depth - 8)).astype(np.uint8)


def to_swscale_format(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame of the same frame that swscale can read.

    It knows some packed formats in the other byte order only, no gray of 32 bits, and ends the
    whole process at gray with alpha in floating point of 32 bits.
    """
    name = frame.format.name
    if name.startswith(("yaf", "gray32")):
        luma = luma_bytes(frame)
        assert luma is not None
        gray = av.VideoFrame.from_ndarray(np.ascontiguousarray(luma), format="gray")
        gray.color_range = 2  # full range
        gray.pts = frame.pts
        return gray
    size = _SWAPPED.get(name)
    if size is None:
        return frame
    swapped = av.VideoFrame(frame.width, frame.height, name[:-2] + "le")
    source, target = frame.planes[0], swapped.planes[0]
    rows = np.frombuffer(memoryview(source), np.uint8).reshape(-1, source.line_size)[: frame.height]
    out = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)[: frame.height]
    width = min(source.line_size, target.line_size) // size * size
    out[:, :width] = rows[:, :width].copy().view(f"u{size}").byteswap().view(np.uint8)
    swapped.color_range, swapped.colorspace = frame.color_range, frame.colorspace
    swapped.pts = frame.pts
    return swapped


# Formats that swscale (FFmpeg 8) reads with the least significant byte first only: bytes of a word.
_SWAPPED = {"y210be": 2, "y212be": 2, "y216be": 2}
_SWAPPED |= {"xv30be": 4, "v30xbe": 4, "x2rgb10be": 4, "x2bgr10be": 4}


def _words(frame: av.VideoFrame, layout: LumaLayout) -> np.ndarray:
    plane = frame.planes[0]
    strides = (plane.line_size, layout.step)
    shape = (frame.height, frame.width)
    return np.ndarray(shape, layout.dtype, memoryview(plane), layout.offset, strides)
