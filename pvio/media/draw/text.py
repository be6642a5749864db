"""Text as coverage, composed of glyphs that are rendered once."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

# Pixels between the lines of a text, as Pillow's ImageDraw has it.
LINE_GAP = 4
# In no font, by definition.
_NOWHERE = "\uffff"
_PLAIN = {"µ": "u", "μ": "u", "ß": "s", "×": "x", "–": "-", "—": "-", "→": ">", "←": "<", "−": "-"}


class Glyph(NamedTuple):
    """A character, placed relative to the top left corner of a text that starts with it.

    Attributes:
        levels: height×width, uint8: 0..255 for a share of 0..1 covered.
        left, top: where the levels begin.
        advance: where the next character starts; the font has no kerning.
    """

    levels: NDArray[np.uint8]
    left: int
    top: int
    advance: int


def text_coverage(string: str, size: float) -> NDArray[np.uint8]:
    """The share of each pixel that a text covers, 0..255, from its top left corner on.

    The same as Pillow's `ImageDraw.text` with its default font, whose layout is a plain row of
    characters. Missing characters are drawn as their plain letter, or as a question mark.

    Args:
        string: the text; it may have several lines.
        size: of the font in pixels.
    """
    placed = []
    right = bottom = 0
    for number, line in enumerate(string.split("\n")):
        x, y = 0, number * (line_height(size) + LINE_GAP)
        for character in line or [""]:  # an empty line has a height as well
            glyph = render_glyph(character, size)
            height, width = glyph.levels.shape
            left, top = x + glyph.left, y + glyph.top
            placed.append((glyph.levels, left, top))
            right, bottom = max(right, left + width), max(bottom, top + height)
            x += glyph.advance
    text = np.zeros((bottom, right), np.uint8)
    for levels, left, top in placed:
        levels = levels[max(-top, 0) :, max(-left, 0) :]
        top, left = max(top, 0), max(left, 0)
        part = text[top : top + levels.shape[0], left : left + levels.shape[1]]
        part[...] = one_over_the_other(levels, part) if part.any() else levels
    return text


def one_over_the_other(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[Any]:
    """Levels a over b: a + b · (1 - a), rounded as in Pillow."""
    product = b.astype(np.int32) * (255 - a.astype(np.int32)) + 128
    return a + (((product >> 8) + product) >> 8)


def line_height(size: float) -> int:
    """Height of a line in pixels, without the gap between lines."""
    glyph = render_glyph("A", size)
    return glyph.top + int(glyph.levels.shape[0])


@lru_cache(maxsize=2048)
def render_glyph(character: str, size: float) -> Glyph:
    """Render a character, or its plain letter, or "?", if the font lacks it."""
    font = load_font(size)
    if not _has(font, character):
        # é as e, µ as u: the font has little but ASCII.
        plain = unicodedata.normalize("NFKD", _PLAIN.get(character, character))[:1]
        character = plain if plain and _has(font, plain) else "?"
    mask, (left, top) = font.getmask2(character, mode="L")
    levels = np.array(mask, np.uint8).reshape(mask.size[::-1])
    return Glyph(levels, int(left), int(top), int(font.getlength(character)))


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether a font has a character: what it lacks it draws as an empty box."""
    mask, box = font.getmask(character, mode="L"), font.getmask(_NOWHERE, mode="L")
    return mask.size != box.size or bytes(mask) != bytes(box)


@lru_cache(maxsize=16)
def load_font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's default font at a size in pixels."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
