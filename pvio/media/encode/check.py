"""Whether an encoder takes the settings, found without a video."""

from __future__ import annotations

import io
from fractions import Fraction

from pvio.config.codecs import CODECS
from pvio.config.settings import OutputSettings
from pvio.errors import ConfigError, EncodeError
from pvio.media.encode.format import OutputFormat
from pvio.media.encode.segment import SegmentEncoder
from pvio.media.pixels.color import BT709, LIMITED

# What one format or size does not take, another may: all must refuse the options.
_SIZES = ((64, 64), (1080, 1920))


def check_encoder(settings: OutputSettings) -> None:
    """Open the encoder of the settings for some kinds of pictures.

    Encoders of a GPU may be absent where this is called, and are not tried.

    Raises:
        ConfigError: when it takes `output.options` for none of them.
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
        pictures = OutputFormat(
            *("a picture", height, width, name),
            color=(LIMITED, BT709, BT709, BT709),
            sample_aspect_ratio=Fraction(1),
            time_base=Fraction(1, 25),
            rate=Fraction(25),
        )
        try:
            SegmentEncoder(io.BytesIO(), pictures, settings)
            return
        except EncodeError as error:
            first = first or error
            if error.__cause__ is None:  # an option that is not known, whatever the pictures
                break
    text = str(first).removeprefix("output.options: ")
    raise ConfigError(f"output.options: {text}; they are {settings.options}") from first
