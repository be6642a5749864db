"""The open-field tracker finds animals where they are known to be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pvio.media.draw.canvas import Canvas
from pvio.models.open_field import OpenFieldTracker, median_picture

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "samples"
CLIPS = REPOSITORY.parent / "shared" / "videos"
Prediction = dict[str, NDArray[Any]]


@dataclass
class Clip:
    """A video in memory, N×H×W uint8; `scale` is how much larger the source frame is."""

    frames: NDArray[np.uint8]
    scale: float = 1.0

    @property
    def input_height(self) -> int:
        return int(self.frames.shape[1])

    @property
    def input_width(self) -> int:
        return int(self.frames.shape[2])

    @property
    def height(self) -> int:
        return round(self.input_height * self.scale)

    @property
    def width(self) -> int:
        return round(self.input_width * self.scale)

    def sample(self, n: int) -> torch.Tensor:
        index = np.unique(np.linspace(0, len(self.frames) - 1, n).astype(int))
        return torch.from_numpy(self.frames[index][:, None])


def pixels(
    *animals: tuple[float, float, float, float, float], floor: float = 40, level: float = 180
) -> NDArray[np.uint8]:
    """160×200 frame with ellipses (x, y, semi-axes, angle) on an even floor."""
    y, x = np.mgrid[:160, :200]
    gray = np.full((160, 200), floor)
    for cx, cy, major, minor, angle in animals:
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        gray[(along / major) ** 2 + (across / minor) ** 2 <= 1] = level
    return gray.astype(np.uint8)


def moving_clip(n: int = 30, floor: float = 40, level: float = 180) -> Clip:
    """Two ellipses cross the frame, the larger one above."""
    return Clip(
        np.stack(
            [
                pixels(
                    (30 + 4.5 * i, 40, 14, 7, 0.1 * i - 1.4),
                    (165 - 4.5 * i, 115, 11, 6, 0.7),
                    floor=floor,
                    level=level,
                )
                for i in range(n)
            ]
        )
    )


def track(model: OpenFieldTracker, frames: NDArray[np.uint8], batch: int = 32) -> Prediction:
    parts = [
        model(torch.from_numpy(frames[i : i + batch, None])) for i in range(0, len(frames), batch)
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def prepared(clip: Clip, **options: Any) -> OpenFieldTracker:
    model = OpenFieldTracker(**options)
    model.prepare(clip)
    return model


def equal(a: Prediction, b: Prediction) -> bool:
    return all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def decode_luma(path: Path, every: int = 1) -> NDArray[np.uint8]:
    """Each `every`-th frame's luma plane, N×H×W."""
    frames = []
    with av.open(str(path)) as container:
        for frame in islice(container.decode(video=0), 0, None, every):
            plane: Any = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            frames.append(rows[:, : plane.width].copy())
    return np.stack(frames)


@pytest.mark.parametrize("background", ["median", "none"])
@pytest.mark.parametrize(("floor", "level"), [(40, 180), (200, 70)])
def test_position_area_and_orientation_are_right_for_bright_and_dark_animals(
    background: str, floor: float, level: float
) -> None:
    clip = moving_clip(floor=floor, level=level)
    found = track(prepared(clip, background=background), clip.frames)
    i = np.arange(30)
    assert found["x"][:, 0] == pytest.approx(30 + 4.5 * i, abs=0.3)
    assert found["y"][:, 0] == pytest.approx(np.full(30, 40), abs=0.3)
    assert found["x"][:, 1] == pytest.approx(165 - 4.5 * i, abs=0.3)
    assert found["y"][:, 1] == pytest.approx(np.full(30, 115), abs=0.3)
    assert found["area"][:, 0] == pytest.approx(np.full(30, np.pi * 14 * 7), rel=0.06)
    assert found["area"][:, 1] == pytest.approx(np.full(30, np.pi * 11 * 6), rel=0.06)
    turned = (found["orientation"][:, 0] - (0.1 * i - 1.4) + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(turned).max() < 0.05
    assert found["orientation"][:, 1] == pytest.approx(np.full(30, 0.7), abs=0.05)
    assert all(values.dtype == np.float32 for values in found.values())


def test_an_upright_animal_has_orientation_plus_half_pi() -> None:
    model = prepared(moving_clip())
    found = track(model, pixels((80, 50, 7, 14, 0), (80, 110, 14, 7, 0))[None])
    assert sorted(found["orientation"][0]) == pytest.approx([0, np.pi / 2], abs=1e-6)


def test_animals_that_touch_are_distinguished() -> None:
    model = prepared(moving_clip())
    for other, angle in [((113, 80), 0.0), ((92, 92.5), 0.0), ((106, 90), 1.2)]:
        frame = pixels((87, 80, 14, 7, 0), (*other, 13.5, 7, angle))
        found = track(model, frame[None])
        places = sorted(zip(found["x"][0], found["y"][0], strict=True))
        expected = sorted([(87, 80), other])
        assert np.abs(np.array(places) - expected).max() < 1.5


def test_a_thin_bridge_between_two_animals_is_cut() -> None:
    frame = pixels((60, 80, 14, 7, 0), (120, 80, 12, 7, 0))
    frame[80:82, 60:120] = 180
    found = track(prepared(moving_clip()), frame[None])
    assert found["x"][0] == pytest.approx([60, 120], abs=0.5)


def test_no_animal_is_nan_and_specks_do_not_count() -> None:
    model = prepared(moving_clip())
    frames = np.stack([pixels(), pixels((50, 50, 14, 7, 0)), pixels((50, 50, 3, 3, 0))])
    found = track(model, frames)
    for values in found.values():
        assert np.isnan(values).tolist() == [[True, True], [False, True], [True, True]]


def test_animals_are_sorted_by_area() -> None:
    frame = pixels((40, 40, 9, 7, 0), (100, 60, 14, 7, 0), (150, 120, 12, 7, 0))
    found = track(prepared(moving_clip(), n_animals=3), frame[None])
    assert found["x"][0] == pytest.approx([100, 150, 40], abs=0.3)


def test_a_frame_gives_the_same_bits_in_any_batch() -> None:
    clip = moving_clip()
    model = prepared(clip)
    assert equal(track(model, clip.frames, batch=1), track(model, clip.frames, batch=13))
    again = prepared(clip)
    assert equal(track(model, clip.frames), track(again, clip.frames[::-1].copy()[::-1].copy()))


def test_uint8_float_and_rgb_frames_agree() -> None:
    clip = moving_clip()
    clip.frames += np.random.default_rng(0).integers(0, 12, clip.frames.shape).astype(np.uint8)
    model = prepared(clip, threshold=60)
    gray = torch.from_numpy(clip.frames[:, None])
    expected = {name: values.numpy() for name, values in model(gray).items()}
    rgb = gray.expand(-1, 3, -1, -1)
    for frames in (gray.float() / 255, rgb, rgb.float() / 255, gray.float().mul(1 / 255)):
        found = {name: values.numpy() for name, values in model(frames).items()}
        assert equal(found, expected)


def test_results_are_in_pixels_of_the_source_frame() -> None:
    clip = moving_clip()
    small = track(prepared(clip), clip.frames)
    source = track(prepared(Clip(clip.frames, scale=2.5)), clip.frames)
    assert source["x"] == pytest.approx((small["x"] + 0.5) * 2.5 - 0.5)
    assert source["area"] == pytest.approx(small["area"] * 2.5**2)
    assert source["orientation"] == pytest.approx(small["orientation"], abs=1e-5)


def test_the_background_is_the_lower_median() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 9, 7)).astype(np.uint8)
    for n in (1, 2, 11, 12):
        expected = np.sort(frames[:n], axis=0)[(n - 1) // 2]
        assert np.array_equal(median_picture(frames[:n]), expected)


def test_a_fixed_threshold_is_a_gray_level_without_background() -> None:
    clip = Clip(np.stack([pixels((80, 80, 14, 7, 0), level=100)] * 3))
    options: dict[str, Any] = {"n_animals": 1, "background": "none", "polarity": "bright"}
    assert np.isfinite(track(prepared(clip, threshold=99, **options), clip.frames)["x"]).all()
    assert np.isnan(track(prepared(clip, threshold=100, **options), clip.frames)["x"]).all()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("n_animals", 0, "n_animals is 0; expected an integer from 1"),
        ("background", "mean", "background is 'mean'; expected one of median, none"),
        ("polarity", "light", "polarity is 'light'; expected one of auto, bright, dark"),
        ("threshold", 300, "threshold is 300; expected auto or a number from 0 to 255"),
        ("threshold", "otsu", "threshold is 'otsu'; expected auto or a number"),
        ("min_area", -1, "min_area is -1; expected auto or a number from 0"),
        ("n_background_frames", 2.5, "n_background_frames is 2.5; expected an integer from 3"),
        ("cleaning", 11, "cleaning is 11; expected auto or an integer from 0 to 10"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(
    argument: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OpenFieldTracker(**{argument: value})


def test_frames_before_prepare_or_of_another_size_are_refused() -> None:
    frames = torch.zeros(1, 1, 20, 20)
    with pytest.raises(RuntimeError, match=r"call prepare\(video\)"):
        OpenFieldTracker()(frames)
    with pytest.raises(ValueError, match="expected B×C×160×200"):
        prepared(moving_clip())(frames)


def test_the_overlay_is_drawn_at_the_animals_only() -> None:
    clip = moving_clip()
    found = track(prepared(clip), clip.frames)
    planes = [clip.frames[3].copy(), *(np.full((80, 100), 128, np.uint8) for _ in "UV")]
    row = {"frame": 3, "time": 0.1, "status": "ok", **{k: v[3] for k, v in found.items()}}
    OpenFieldTracker().draw(Canvas(planes), row)
    changed = np.argwhere(planes[0] != clip.frames[3])
    places = np.stack([found["y"][3], found["x"][3]], axis=1)
    distance = np.linalg.norm(changed[:, None] - places, axis=2)
    assert (distance.min(axis=0) < 2).all()
    assert distance.min(axis=1).max() < 20


@pytest.mark.parametrize("name", ["dark_on_bright", "bright_on_dark", "variable_rate"])
def test_default_settings_find_both_animals_in_every_frame_of_a_sample(name: str) -> None:
    frames = decode_luma(SAMPLES / f"{name}.mp4")
    truth = np.loadtxt(SAMPLES / f"{name}.truth.tsv", skiprows=1)[:, 2:].reshape(-1, 2, 2)
    assert len(truth) == len(frames)
    found = track(prepared(Clip(frames)), frames)
    place = np.stack([found["x"], found["y"]], axis=2)
    straight, crossed = (np.linalg.norm(order - truth, axis=2) for order in (place, place[:, ::-1]))
    same_order = straight.sum(axis=1) < crossed.sum(axis=1)
    error = np.where(same_order[:, None], straight, crossed)
    assert np.median(error) < 0.3
    assert error.max() < 3  # NaN would fail here too


# Regions were read off rendered frames; a fly is about 80 by 30 pixels in both clips.
@pytest.mark.skipif(not CLIPS.exists(), reason="needs the real clips")
@pytest.mark.parametrize(
    ("name", "x", "y", "least"),
    [
        ("fly_pair_384", (70, 320), (70, 320), 0.9),
        ("fly_arena_1024", (230, 900), (330, 560), 0.95),
    ],
)
def test_both_flies_are_found_in_real_clips(
    name: str, x: tuple[int, int], y: tuple[int, int], least: float
) -> None:
    frames = decode_luma(CLIPS / f"{name}.mp4", every=5)
    found = track(prepared(Clip(frames), background="none"), frames)
    apart = np.hypot(np.diff(found["x"]), np.diff(found["y"]))[:, 0]
    inside = (found["x"] > x[0]) & (found["x"] < x[1]) & (found["y"] > y[0]) & (found["y"] < y[1])
    fly = (found["area"] > 1000) & (found["area"] < 3200)
    good = (inside & fly).all(axis=1) & (apart > 50) & (apart < 260)
    assert good.mean() >= least
