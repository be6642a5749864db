"""Numbers of ITU-T H.273, and questions about pixel formats."""

from __future__ import annotations

import av

LIMITED, FULL = 1, 2
BT709, UNTAGGED, BT601 = 1, 2, 5


def is_rgb(pix_fmt: str) -> bool:
    """Whether a format has red, green and blue samples, or a palette of them."""
    try:
        return bool(av.VideoFormat(pix_fmt).is_rgb) or pix_fmt == "pal8"
    except ValueError:
        return False


def is_gray(pix_fmt: str) -> bool:
    """Whether a format has luma only, perhaps beside alpha."""
    return pix_fmt.startswith(("gray", "ya8", "ya16")) and not pix_fmt.startswith("grayf")


def bit_depth(pix_fmt: str) -> int:
    """Bits per sample."""
    return int(av.VideoFormat(pix_fmt).components[0].bits)
