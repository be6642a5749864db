"""Gray of every pixel format is its luma samples as coded; the overlay keeps them too."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from pvio.media.encode.format import OutputFormat, _layout_and_depth, _name
from pvio.media.encode.planes import PlanarConverter
from pvio.media.pixels.color import ColorTags
from pvio.media.pixels.convert import FrameConverter
from pvio.media.pixels.layout import luma_layout, luma_samples
from pvio.media.pixels.orientation import Orientation
from pvio.media.pixels.planes import plane_as_array

HEIGHT, WIDTH = 16, 32
LUMA = np.random.default_rng(0).integers(64, 941, (HEIGHT, WIDTH)).astype(np.uint16)
LIMITED = 1

FORMATS = [name for name in sorted(av.video.format.names) if luma_layout(name) is not None]
# swscale writes none of these; it reads gray32 not either.
UNWRITABLE = {"gray32be", "gray32le", "v30xbe", "xv30be", "y210be", "y212be", "y216be"}


def written_by_swscale(name: str) -> tuple[av.VideoFrame, np.ndarray]:
    """A frame of known luma in limited range, and its samples in the depth of the format."""
    depth = min(10, av.VideoFormat(name).components[0].bits)
    gray = name.startswith(("gray", "ya"))
    if depth < 10:
        samples = (LUMA >> 2).astype(np.uint8)
        flat = np.full((3, HEIGHT, WIDTH), 128, np.uint8)
        flat[0] = samples
        source = av.VideoFrame.from_ndarray(
            samples if gray else flat, "gray" if gray else "yuv444p"
        )
    else:
        samples = LUMA
        source = av.VideoFrame(WIDTH, HEIGHT, "gray10le" if gray else "yuv444p10le")
        for number in range(1 if gray else 3):
            plane_as_array(source, number)[...] = samples if number == 0 else 512
    source.color_range = LIMITED
    frame = VideoReformatter().reformat(
        source,
        format=name,
        interpolation=Interpolation.POINT,
        src_color_range=LIMITED,
        dst_color_range=LIMITED,
        threads=1,
    )
    frame.color_range = LIMITED
    return frame, samples


def output_like(name: str) -> OutputFormat:
    pix_fmt = _name(*_layout_and_depth(name))
    color = ColorTags(LIMITED, 1, 1, 1)
    size = (HEIGHT, WIDTH, pix_fmt, color)
    return OutputFormat("clip", *size, Fraction(1), Fraction(1, 25), Fraction(25))


def test_the_table_has_all_formats_with_whole_luma_samples():
    others = {
        name
        for name in av.video.format.names
        if (form := av.VideoFormat(name)).components
        and form.components[0].is_luma
        and name not in FORMATS
    }
    floats = {name for name in others if "f16" in name or "f32" in name}
    assert others - floats == {"monob", "monow", "pal8", "uyyvyy411", "xyz12be", "xyz12le"}


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name not in UNWRITABLE and "yuvj" not in name]
)
def test_gray_is_the_luma_as_coded(name: str):
    frame, samples = written_by_swscale(name)
    depth = 8 if samples.dtype == np.uint8 else 10
    gray = FrameConverter("gray", HEIGHT, WIDTH, Orientation())(frame)[:, :, 0]
    assert (gray == samples >> (depth - 8)).all()
    luma = luma_samples(frame)
    assert luma is not None
    extra = av.VideoFormat(name).components[0].bits - depth
    assert (luma >> extra == samples).all()


@pytest.mark.parametrize(
    "name", [name for name in FORMATS if name not in UNWRITABLE and "yuvj" not in name]
)
def test_the_overlay_has_the_luma_as_coded(name: str):
    frame, samples = written_by_swscale(name)
    planes = PlanarConverter(output_like(name), Orientation())(frame)
    change = av.VideoFormat(output_like(name).pix_fmt).components[0].bits
    change -= 8 if samples.dtype == np.uint8 else 10
    assert (planes[0] >> change == samples).all()


RAMP = np.arange(64, 64 + WIDTH)  # of ten bits
CHROMA = 512


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("y210be", ">u2", np.stack([RAMP, np.full(WIDTH, CHROMA)], 1) << 6),
        ("xv30be", ">u4", (CHROMA << 20) | (RAMP << 10) | CHROMA),
        ("v30xbe", ">u4", (CHROMA << 22) | (RAMP << 12) | (CHROMA << 2)),
        ("gray32be", ">u4", RAMP << 22),
        ("yaf32le", "<f4", np.repeat((RAMP >> 2) / 255, 2)),
    ],
)
def test_what_swscale_cannot_read_is_read(name: str, dtype: str, words: np.ndarray):
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(HEIGHT, -1)
    line = np.frombuffer(words.astype(dtype).tobytes(), np.uint8)
    rows[:, : len(line)] = line
    frame.color_range = LIMITED
    gray = FrameConverter("gray", HEIGHT, WIDTH, Orientation())(frame)[:, :, 0]
    assert (gray == RAMP >> 2).all()
    rgb = FrameConverter("rgb", HEIGHT, WIDTH, Orientation())(frame)
    assert rgb.std(axis=2).max() < 2  # gray
    assert (np.diff(rgb[0, :, 0].astype(int)) >= 0).all()


def test_four_pixels_of_six_bytes():
    frame = av.VideoFrame(WIDTH, HEIGHT, "uyyvyy411")
    rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(HEIGHT, -1)
    samples = (LUMA >> 2).astype(np.uint8)
    for row, luma in zip(rows, samples, strict=True):
        groups = np.full((WIDTH // 4, 6), 128, np.uint8)
        groups[:, [1, 2, 4, 5]] = luma.reshape(-1, 4)
        row[: groups.size] = groups.ravel()
    gray = FrameConverter("gray", HEIGHT, WIDTH, Orientation())(frame)[:, :, 0]
    assert (gray == samples).all()
