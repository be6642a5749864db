"""Color tags (ITU-T H.273), and properties of pixel formats."""

from __future__ import annotations

from typing import NamedTuple

import av

# Color ranges and matrix coefficients, as FFmpeg numbers them.
LIMITED, FULL = 1, 2
BT709, UNTAGGED, BT601 = 1, 2, 5


class ColorTags(NamedTuple):
    """Color description of a stream, as numbers of ITU-T H.273; FFmpeg's names.

    Attributes:
        color_range: 0 untagged, 1 limited, 2 full.
        colorspace: matrix coefficients; 2 is untagged.
        color_primaries: 2 is untagged.
        color_trc: transfer characteristics; 2 is untagged.
    """

    color_range: int
    colorspace: int
    color_primaries: int
    color_trc: int


# Of images, and of video that is written from RGB without a source.
BT709_LIMITED = ColorTags(LIMITED, BT709, BT709, BT709)


def is_rgb(pix_fmt: str) -> bool:
    """Whether a format has red, green and blue samples, or a palette of them."""
    try:
        return bool(av.VideoFormat(pix_fmt).is_rgb) or pix_fmt == "pal8"
    except ValueError:
        return False


def is_gray(pix_fmt: str) -> bool:
    """Whether a format has luma only, perhaps with alpha."""
    return pix_fmt.startswith(("gray", "ya8", "ya16")) and not pix_fmt.startswith("grayf")


def bit_depth(pix_fmt: str) -> int:
    """Bits per sample of a pixel format, by FFmpeg's name."""
    return int(av.VideoFormat(pix_fmt).components[0].bits)
