"""Check the settings of an encoder before any video is read."""

from __future__ import annotations

import io
from fractions import Fraction

from pvio.config.codecs import CODECS
from pvio.config.output import OutputSettings
from pvio.errors import ConfigError, EncodeError
from pvio.media.encode.format import OutputFormat
from pvio.media.encode.segment import SegmentEncoder
from pvio.media.pixels.color import BT709_LIMITED

# Options may be valid for some formats and sizes only: all must fail.
_SIZES = ((64, 64), (1080, 1920))


def check_encoder(settings: OutputSettings) -> None:
    """Open the encoder of the settings for some frame sizes and pixel formats.

    Encoders of a GPU are not checked: this process may have no GPU.

    Args:
        settings: of the output; `codec`, `pix_fmt` and the encoder's options matter.

    Raises:
        ConfigError: if the encoder accepts `output.options` for none of them.
    """
    codec = CODECS[settings.codec]
    if codec.fallback:
        return
    formats = codec.pixel_formats
    if settings.pix_fmt in formats:
        formats = (settings.pix_fmt,)
    first: EncodeError | None = None
    small, large = _SIZES
    for height, width, name in [*((*small, name) for name in formats), (*large, formats[0])]:
        output = OutputFormat(
            *("a frame", height, width, name),
            color=BT709_LIMITED,
            sample_aspect_ratio=Fraction(1),
            time_base=Fraction(1, 25),
            rate=Fraction(25),
        )
        try:
            SegmentEncoder(io.BytesIO(), output, settings)
            return
        except EncodeError as error:
            first = first or error
            if error.__cause__ is None:  # an unknown option fails for every frame size
                break
    text = str(first).removeprefix("output.options: ")
    raise ConfigError(f"output.options: {text}; they are {settings.options}") from first
