"""The encoders that `output.codec` can name: their options and fallbacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CodecName = Literal["libx264", "libx265", "ffv1", "h264_nvenc", "hevc_nvenc"]

_X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)
_NVENC_PRESETS = ("fast", "medium", "slow", "p1", "p2", "p3", "p4", "p5", "p6", "p7")


def _formats(*depths: int) -> tuple[str, ...]:
    suffixes = ["" if depth == 8 else f"{depth}le" for depth in depths]
    return tuple(f"yuv{layout}p{suffix}" for layout in ("420", "422", "444") for suffix in suffixes)


@dataclass(frozen=True)
class Codec:
    """An encoder.

    Attributes:
        presets: values of `output.preset`; empty if the encoder has none.
        pixel_formats: planar formats it encodes.
        suffix: ending of the videos, which chooses the container.
        rounds_odd_chroma_up: whether chroma planes of frames with odd sizes may be rounded up.
        fallback: encoder of the same format for machines without its hardware; "" for none.
    """

    presets: tuple[str, ...]
    pixel_formats: tuple[str, ...]
    suffix: Literal[".mp4", ".mkv"]
    rounds_odd_chroma_up: bool
    fallback: Literal["", "libx264", "libx265"]


CODECS: dict[CodecName, Codec] = {
    "libx264": Codec(_X26_PRESETS, _formats(8, 10), ".mp4", False, ""),
    "libx265": Codec(_X26_PRESETS, _formats(8, 10, 12), ".mp4", False, ""),
    "ffv1": Codec((), _formats(8, 9, 10, 12, 14, 16), ".mkv", True, ""),
    "h264_nvenc": Codec(_NVENC_PRESETS, ("yuv420p", "yuv444p"), ".mp4", False, "libx264"),
    "hevc_nvenc": Codec(
        _NVENC_PRESETS,
        ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le"),
        *(".mp4", False, "libx265"),
    ),
}

# Endings that videos of results can have.
VIDEO_SUFFIXES = sorted({codec.suffix for codec in CODECS.values()})
# The closest presets for NVENC's own names, after `ffmpeg -h encoder=h264_nvenc`.
FALLBACK_PRESETS = {
    **{"p1": "veryfast", "p2": "faster", "p3": "fast", "p4": "medium"},
    **{"p5": "slow", "p6": "slower", "p7": "veryslow"},
}
