"""Damage that Pillow ignores, and damage outside of the pixels that it does not."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pvio.errors import UnreadableVideo
from pvio.media.decode.reader import open_reader
from pvio.media.images.files import read_pixels
from pvio.media.images.jpeg_damage import jpeg_damage
from pvio.media.images.png_chunks import strip_png_extras
from pvio.media.index.cached import load_index

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
def test_an_intact_jpeg_is_not_damaged(kind: str, tmp_path: Path):
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


def test_text_with_a_wrong_checksum_does_not_cost_the_image(tmp_path: Path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "hello")
    data = encoded("PNG", pnginfo=info)
    broken = data.replace(b"hello", b"hellO")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(broken))
    path = tmp_path / "image.png"
    path.write_bytes(broken)
    assert (read_pixels(path) == PIXELS).all()
    assert strip_png_extras(data) == encoded("PNG")


def test_a_broken_image_stays_broken():
    data = bytearray(encoded("PNG"))
    data[data.index(b"IDAT") + 100] ^= 1
    assert strip_png_extras(bytes(data)) == bytes(data)


def png_with(*chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    """A PNG with more chunks: before its pixels, or after them."""
    data = encoded("PNG")
    at = data.index(b"IEND") - 4 if behind else 33
    packed = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return data[:at] + b"".join(packed) + data[at:]


LONG_TEXT = (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2_000_000))
SIDE_INFORMATION = {
    "long text": [LONG_TEXT],
    "much text": [(b"tEXt", b"a\0" + b"x" * 10_000)] * 7,
    **{kind: [(kind.encode(), b"\1")] for kind in ("pHYs", "gAMA", "cHRM", "tRNS", "acTL", "fcTL")},
    "iCCP": [(b"iCCP", b"a\0\7garbage")],
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kind", SIDE_INFORMATION)
def test_side_information_of_a_png_does_not_cost_the_image(
    kind: str, behind: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 60_000)  # 64 MB, to be quick
    path = tmp_path / "image.png"
    path.write_bytes(png_with(*SIDE_INFORMATION[kind], behind=behind))
    index = load_index(path)
    assert [frame.status for frame in open_reader(index).frames(0, 1)] == ["ok"]
    assert (read_pixels(path) == PIXELS).all()


def test_an_animation_keeps_its_frames_without_the_rest(tmp_path: Path):
    first, second = (Image.fromarray(PIXELS[:, ::step]) for step in (1, -1))
    path = tmp_path / "image.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    first.save(path, save_all=True, append_images=[second], pnginfo=info)
    assert (read_pixels(path, 1) == PIXELS[:, ::-1]).all()


SEGMENTS = {
    "no content": b"\xff\xe1\xff\xff",
    "length beyond the file": b"\xff\xe1\xff\xff" + bytes(40),
    "length within the file": b"\xff\xe1\x01\x23" + bytes(40),
    "no length": b"\xff\xe2\0\0",
    "Adobe cut short": b"\xff\xee\0\x08Adobe\0",
}


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("kind", SEGMENTS)
def test_side_information_of_a_jpeg_does_not_cost_the_image(kind: str, mode: str, tmp_path: Path):
    path = tmp_path / "image.jpg"
    data = encoded("JPEG", mode)
    path.write_bytes(data)
    expected = read_pixels(path)
    path.write_bytes(data[:2] + SEGMENTS[kind] + data[2:])
    index = load_index(path)
    assert [frame.status for frame in open_reader(index).frames(0, 1)] == ["ok"]
    assert (read_pixels(path) == expected).all()


def test_a_thumbnail_is_not_taken_for_the_image(tmp_path: Path):
    path = tmp_path / "image.jpg"
    data = encoded("JPEG")
    path.write_bytes(data[:2] + b"\xff\xe1\xff\xff" + data + data[2:])
    with pytest.raises(UnreadableVideo):
        load_index(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_cut", [1, 2])
def test_a_jpeg_without_its_end_marker_has_all_its_pixels(kind: str, n_cut: int, tmp_path: Path):
    mode, options = KINDS[kind]
    path = tmp_path / "image.jpg"
    data = encoded("JPEG", mode, **options)
    path.write_bytes(data)
    expected = read_pixels(path)
    path.write_bytes(data[:-n_cut])
    assert (read_pixels(path) == expected).all()
    assert [frame.status for frame in open_reader(load_index(path)).frames(0, 1)] == ["suspect"]


def test_half_a_jpeg_is_no_row(tmp_path: Path):
    path = tmp_path / "image.jpg"
    data = encoded("JPEG")
    path.write_bytes(data[: len(data) // 2])
    assert [frame.status for frame in open_reader(load_index(path)).frames(0, 1)] == ["missing"]


def test_what_follows_the_end_of_a_jpeg_is_not_its_damage(tmp_path: Path):
    path = tmp_path / "image.jpg"
    data = encoded("JPEG")
    path.write_bytes(data + data[:-2])
    assert jpeg_damage(path) == ""
