"""Format of a re-encoded video: size, pixel format, color tags and units of time."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from pvio.config.codecs import CODECS
from pvio.config.output import OutputSettings
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.color import (
    BT709,
    BT709_LIMITED,
    FULL,
    LIMITED,
    UNTAGGED,
    ColorTags,
    bit_depth,
    is_gray,
    is_rgb,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputFormat:
    """The frames of an encoded video.

    Attributes:
        source: path of the video they are from, for messages.
        height, width: in pixels.
        pix_fmt: planar, FFmpeg's name, such as "yuv420p10le".
        color: its tags.
        sample_aspect_ratio: width of a pixel over its height.
        time_base: seconds per unit of the time stamps.
        rate: average frames per second.
    """

    source: str
    height: int
    width: int
    pix_fmt: str
    color: ColorTags
    sample_aspect_ratio: Fraction
    time_base: Fraction
    rate: Fraction

    @property
    def bit_depth(self) -> int:
        """Bits per sample."""
        return bit_depth(self.pix_fmt)

    @property
    def full_range(self) -> bool:
        """Whether luma uses all values, not 16 to 235 (scaled to the bit depth)."""
        return self.color.color_range == FULL

    @property
    def matrix(self) -> str:
        """Name of the color matrix; bt601 for untagged sources, which is FFmpeg's own default."""
        return {1: "bt709", 9: "bt2020", 10: "bt2020"}.get(self.color.colorspace, "bt601")

    @property
    def canvas_options(self) -> dict[str, Any]:
        """Keyword arguments of a `Canvas` for the planes of this format."""
        return {"bit_depth": self.bit_depth, "full_range": self.full_range, "matrix": self.matrix}

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Heights and widths of the Y, U and V planes; chroma is rounded up where a side is odd."""
        form = av.VideoFormat(self.pix_fmt, self.width, self.height)
        chroma = (form.chroma_height(), form.chroma_width())
        return [(self.height, self.width), chroma, chroma]


def output_format(
    index: FrameIndex,
    settings: OutputSettings,
    size: tuple[int, int] | None = None,
    depth: int | None = None,
) -> OutputFormat:
    """The format in which a source is encoded again.

    Args:
        index: of the source.
        settings: of the output; `codec` and `pix_fmt` matter.
        size: (height, width) of the frames; None for that of the source.
        depth: bits per sample of RGB frames that replace those of the source; else None.
    """
    height, width = size or (index.height, index.width)
    return OutputFormat(
        source=index.path,
        height=height,
        width=width,
        pix_fmt=choose_pix_fmt(index, settings, height, width, depth),
        color=output_color(index),
        sample_aspect_ratio=display_aspect_ratio(index),
        time_base=index.time_base,
        rate=index.average_rate,
    )


def choose_pix_fmt(
    index: FrameIndex, settings: OutputSettings, height: int, width: int, depth: int | None = None
) -> str:
    """The format that `output.pix_fmt` asks for, or the nearest that codec and size allow.

    `auto` is 4:2:0 with the source's bit depth, 8 or 10; with ffv1 it is the source's own format.
    Odd heights or widths become 4:4:4, except in ffv1, and so does 4:2:2 that is rotated by 90
    degrees. A warning is logged if the chosen format is not the one asked for.

    Args:
        index: of the source.
        settings: of the output; `codec` and `pix_fmt` matter.
        height: in pixels.
        width: in pixels.
        depth: bits per sample of RGB frames that replace those of the source; else None.

    Returns:
        FFmpeg's name of a planar YUV format.
    """
    codec = CODECS[settings.codec]
    lossless = settings.codec == "ffv1"
    own_layout, own_depth = ("444", depth) if depth else _layout_and_depth(index.pix_fmt)
    if settings.pix_fmt == "auto" and lossless:
        layout, bits = own_layout, own_depth
    elif settings.pix_fmt == "auto":
        layout, bits = "420", 8 if own_depth == 8 or is_rgb(index.pix_fmt) else 10
    elif settings.pix_fmt == "source":
        layout, bits = own_layout, own_depth
    else:
        layout, bits = _layout_and_depth(settings.pix_fmt)
    wanted = _name(layout, bits)
    # Chroma planes that are rounded up, or halved in one direction only, cannot be rotated.
    rounds_up = codec.rounds_odd_chroma_up and index.orientation.is_upright
    is_on_side = index.orientation.quarter_turns % 2 == 1
    fits = rounds_up or fits_subsampling(layout, height, width)
    fits = fits and not (layout == "422" and is_on_side)
    if not fits or not any(f"yuv{layout}p" in name for name in codec.pixel_formats):
        layout = "444"
    depths = sorted(bit_depth(n) for n in codec.pixel_formats if n.startswith(f"yuv{layout}p"))
    bits = next((each for each in depths if each >= bits), depths[-1])
    chosen = _name(layout, bits)
    if chosen != wanted and settings.pix_fmt != "auto":
        turned = ", rotated" if not index.orientation.is_upright else ""
        why = f"{width}×{height} pixels{turned}" if not fits else settings.codec
        warn_once(f"{index.path}: encoded as {chosen}, since {wanted} is not possible with {why}")
    return chosen


def fits_subsampling(layout: str, height: int, width: int) -> bool:
    """Whether the sides are multiples of the chroma steps of a layout such as "420"."""
    return not ((layout != "444" and width % 2) or (layout == "420" and height % 2))


def output_color(index: FrameIndex) -> ColorTags:
    """Range, matrix, primaries, transfer of the output: the source's.

    RGB has neither range nor matrix, and images no tags: BT.709, limited range, for these.
    """
    if index.has_images:
        return BT709_LIMITED
    if is_rgb(index.pix_fmt):
        primaries, transfer = (BT709 if tag in (0, UNTAGGED) else tag for tag in index.color[2:])
        return ColorTags(LIMITED, BT709, primaries, transfer)
    # Untagged gray has full range in FFmpeg, as in JPEG.
    full = index.pix_fmt.startswith("yuvj") or (
        is_gray(index.pix_fmt) and index.color.color_range == 0
    )
    return index.color._replace(color_range=FULL) if full else index.color


def display_aspect_ratio(index: FrameIndex) -> Fraction:
    """Width of a pixel over its height, after rotation for display."""
    aspect = index.sample_aspect_ratio
    return 1 / aspect if index.orientation.quarter_turns % 2 else aspect


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning once per process: it would be the same for every segment."""
    logger.warning(message)


def _layout_and_depth(pix_fmt: str) -> tuple[str, int]:
    """Chroma layout ("420", "422", "444") with room for a format's samples, and its bits."""
    try:
        form = av.VideoFormat(pix_fmt, 64, 64)
    except ValueError:
        return "420", 8
    bits = min(max(8, int(form.components[0].bits)), 16)
    if is_gray(pix_fmt):
        return "420", bits
    if is_rgb(pix_fmt):
        return "444", bits
    chroma = (form.chroma_height(), form.chroma_width())
    return {(32, 32): "420", (64, 32): "422"}.get(chroma, "444"), bits


def _name(layout: str, depth: int) -> str:
    return f"yuv{layout}p" if depth == 8 else f"yuv{layout}p{depth}le"
