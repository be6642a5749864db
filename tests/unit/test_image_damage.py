"""Damage that Pillow passes over, and damage beside the picture that it does not."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pvio.media.images import read_pixels
from pvio.media.jpeg_damage import jpeg_damage
from pvio.media.png_chunks import without_broken_extras

NOISE = np.random.default_rng(0).normal(0, 12, (96, 128, 3))
PIXELS = (np.mgrid[:96, :128].sum(0)[:, :, None] + NOISE).clip(0, 255).astype(np.uint8)


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form, **options)
    return file.getvalue()


KINDS = {
    "gray": ("L", {}),
    "color": ("RGB", {}),
    "without subsampling": ("RGB", {"subsampling": 0}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 4}),
    "CMYK": ("CMYK", {}),
    "fine": ("RGB", {"quality": 98}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_jpeg_is_not_damaged(kind: str, tmp_path: Path):
    mode, options = KINDS[kind]
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded("JPEG", mode, **options))
    assert jpeg_damage(path) == ""


def test_many_flipped_bits_of_a_jpeg_are_noticed(tmp_path: Path):
    path = tmp_path / "image.jpg"
    data, found = encoded("JPEG", quality=90), 0
    for seed in range(30):
        chance, broken = random.Random(seed), bytearray(data)
        for _ in range(16):
            broken[chance.randrange(700, len(data) - 2)] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        found += jpeg_damage(path) != ""
    assert found >= 20


def test_text_with_a_wrong_checksum_does_not_cost_the_picture(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "hello")
    data = encoded("PNG", pnginfo=info)
    broken = data.replace(b"hello", b"hellO")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(broken))
    path = tmp_path / "image.png"
    path.write_bytes(broken)
    assert (read_pixels(path) == PIXELS).all()
    assert without_broken_extras(data) == data


def test_a_broken_picture_stays_broken():
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 100] ^= 1
    assert without_broken_extras(bytes(data)) == bytes(data)
