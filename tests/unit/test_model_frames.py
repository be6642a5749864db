"""The frames that a model returns, as a video."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pvio.config.settings import Settings
from pvio.errors import EncodeError
from pvio.media.encode.concat import concat_segments
from pvio.media.encode.model_frames import ModelFrameWriter
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex

Clip = Callable[[str], Path]


def written(frames_of: list[np.ndarray], index: FrameIndex, settings: Settings, path: Path) -> Path:
    """A video of the frames that a model returned, as one segment."""
    file = io.BytesIO()
    with ModelFrameWriter(file, index, 0, settings.output) as writer:
        for pixels in frames_of:
            writer.write(pixels, "ok")
    concat_segments([(0, len(frames_of), file.getvalue())], index, path)
    return path


@pytest.mark.parametrize("colour", [(200, 60, 30), (20, 90, 220), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("name", ["b_frames.mp4", "full_range.mp4", "odd_444.mp4", "rgb.mkv"])
def test_returned_frames_keep_their_colors(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any, name: str, colour: Any
):
    index = load_index(clip(name))
    pixels = np.full((index.height, index.width, 3), colour, np.uint8)
    path = written([pixels] * 40, index, settings_for(), tmp_path / "a.mp4")
    found = ffmpeg.rgb(path, index.height, index.width).astype(int)
    assert np.abs(found - colour).max() <= 4


def test_returned_gray_frames_keep_their_grays(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("b_frames.mp4"))
    ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))[..., None]
    path = written([ramp] * 40, index, settings_for(), tmp_path / "a.mp4")
    assert np.abs(ffmpeg.rgb(path, 64, 96).astype(int) - ramp).max() <= 3


def test_returned_frames_may_have_another_size(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("variable_rate.mp4"))
    frames_of = [np.zeros((33, 51, 3), np.uint8)] * 40
    path = written(frames_of, index, settings_for(), tmp_path / "a.mp4")
    assert ", 51x33" in ffmpeg.describe(path)
    assert ffmpeg.times(path) == ffmpeg.times(clip("variable_rate.mp4"))


def test_returned_frames_that_change_their_size_are_an_error(clip: Clip, settings_for: Any):
    index = load_index(clip("plain.mp4"))
    writer = ModelFrameWriter(io.BytesIO(), index, 0, settings_for().output)
    writer.write(np.zeros((32, 32, 3), np.uint8), "ok")
    with pytest.raises(EncodeError, match="32×48 at frame 1"):
        writer.write(np.zeros((32, 48, 3), np.uint8), "ok")


def test_absent_frames_repeat_the_one_before_with_a_mark(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any
):
    index = load_index(clip("plain.mp4"))
    file = io.BytesIO()
    with ModelFrameWriter(file, index, 0, settings_for().output) as writer:
        writer.set_fallback(np.zeros((64, 96, 3), np.uint8))
        writer.write(None, "missing")
        writer.write(np.full((64, 96, 3), 120, np.uint8), "ok")
        writer.write(None, "corrupt")
        writer.write(np.full((64, 96, 3), 60, np.uint8), "suspect")
        for _ in range(4, 40):
            writer.write(None, "missing")
    path = tmp_path / "a.mp4"
    concat_segments([(0, 40, file.getvalue())], index, path)
    found = ffmpeg.rgb(path, 64, 96).astype(int)
    inner = found[:, 30:60, 60:90]
    for number, gray in ((0, 0), (1, 120), (2, 120), (3, 60), (4, 60), (39, 60)):
        assert np.abs(inner[number] - gray).max() <= 3
    red = (found[:, 0, :, 0] > 150) & (found[:, 0, :, 1] < 100)
    assert red[[0, *range(2, 40)]].mean() > 0.9
    assert not red[1].any()


@pytest.mark.parametrize(
    ("codec", "stored"), [("libx264", "yuv420p("), ("libx265", "yuv420p("), ("ffv1", "yuv444p")]
)
def test_returned_frames_are_stored_in_eight_bits(
    clip: Clip, settings_for: Any, tmp_path: Path, ffmpeg: Any, codec: str, stored: str
):
    index = load_index(clip("ten_bit.mp4"))
    settings = settings_for(codec=codec)
    pixels = np.full((64, 96, 3), (200, 60, 30), np.uint8)
    path = written([pixels] * 40, index, settings, tmp_path / f"a{settings.output.suffix}")
    assert stored in ffmpeg.describe(path)
    assert np.abs(ffmpeg.rgb(path, 64, 96).astype(int) - pixels).max() <= 4
