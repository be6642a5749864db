"""Make the three sample videos and their tables of true positions.

Every clip shows two ellipses with soft shading on smooth curved paths; now and then they touch.
The positions come from the formulas below, never from a tracker. Everything is deterministic:
`python samples/make_samples.py` writes the same pictures again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
KEYFRAME_INTERVAL = 50


@dataclass(frozen=True)
class Scene:
    """What one clip shows; lengths in pixels, gray levels in 0..255."""

    name: str
    width: int
    height: int
    floor: float
    animal: float
    semi_axes: tuple[tuple[float, float], tuple[float, float]]
    pts: tuple[int, ...]
    time_base: Fraction
    b_frames: int
    audio: bool
    seed: int


def constant_pts(n_frames: int) -> tuple[int, ...]:
    return tuple(range(n_frames))


def irregular_pts(n_frames: int, seed: int) -> tuple[int, ...]:
    """Time stamps in 1/90000 s: steps of 20 to 60 ms and one long pause."""
    steps = np.random.default_rng(seed).integers(1800, 5400, n_frames - 1)
    steps[n_frames // 2] = 27000
    return (0, *np.cumsum(steps).tolist())


SCENES = (
    Scene(
        name="dark_on_bright",
        width=320,
        height=240,
        floor=188,
        animal=58,
        semi_axes=((13.0, 6.5), (11.5, 6.0)),
        pts=constant_pts(200),
        time_base=Fraction(1, 25),
        b_frames=0,
        audio=False,
        seed=1,
    ),
    Scene(
        name="bright_on_dark",
        width=396,
        height=306,
        floor=42,
        animal=176,
        semi_axes=((17.0, 7.0), (15.0, 6.5)),
        pts=constant_pts(210),
        time_base=Fraction(1001, 30000),
        b_frames=3,
        audio=False,
        seed=2,
    ),
    Scene(
        name="variable_rate",
        width=352,
        height=200,
        floor=170,
        animal=64,
        semi_axes=((12.0, 6.0), (10.5, 5.5)),
        pts=irregular_pts(160, seed=3),
        time_base=Fraction(1, 90000),
        b_frames=2,
        audio=True,
        seed=3,
    ),
)


def paths(scene: Scene) -> tuple[Array, Array]:
    """Centres (N×2×2: frame, animal, x and y) and headings (N×2, radians) of both animals."""
    seconds = np.array([float(p * scene.time_base) for p in scene.pts])
    phase = 2 * np.pi * seconds / seconds[-1]
    size = np.array([scene.width, scene.height])
    middle = (size - 1) / 2 + 0.19 * size * np.stack(
        [np.sin(2 * phase + scene.seed), np.cos(3 * phase)], 1
    )
    bearing = 1.5 * phase + 0.6 * np.sin(2 * phase) + scene.seed
    heading = np.stack([bearing + 1.1 + 0.9 * np.sin(2 * phase), 2.0 * phase - scene.seed], 1)
    reach = sum(
        radius_towards(bearing - heading[:, i], *scene.semi_axes[i]) for i in range(2)
    )  # the animals touch at about this distance
    apart = 0.44 * scene.height * np.abs(np.sin(2 * phase)) ** 1.5
    half = ((reach + apart) / 2)[:, None] * np.stack([np.cos(bearing), np.sin(bearing)], 1)
    return np.stack([middle + half, middle - half], 1), heading


def radius_towards(angle: Array, major: float, minor: float) -> Array:
    """Distance from an ellipse's centre to its edge, `angle` radians away from the major axis."""
    return major * minor / np.hypot(minor * np.cos(angle), major * np.sin(angle))


def background(scene: Scene) -> Array:
    """Floor with a slope, a vignette and a fixed texture of small bumps (H×W)."""
    y, x = np.mgrid[: scene.height, : scene.width]
    u, v = x / scene.width - 0.5, y / scene.height - 0.5
    floor = scene.floor * (1 + 0.12 * u - 0.08 * v - 0.35 * (u * u + v * v))
    texture = 3 * np.sin(x / 7.3) * np.sin(y / 5.1)
    return np.asarray(floor + texture)


def draw_animal(
    picture: Array, centre: Array, heading: float, semi_axes: tuple[float, float], level: float
) -> None:
    """Blend one ellipse into the picture; the shading is symmetric: its centroid is its centre."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    dx, dy = x - centre[0], y - centre[1]
    along = (dx * np.cos(heading) + dy * np.sin(heading)) / semi_axes[0]
    across = (dy * np.cos(heading) - dx * np.sin(heading)) / semi_axes[1]
    radius = np.hypot(along, across)
    cover = np.clip((1 - radius) * semi_axes[1] + 0.5, 0, 1)
    shade = level + (picture.mean() - level) * 0.25 * np.minimum(radius, 1) ** 2
    picture += cover * (shade - picture)


def render(scene: Scene) -> list[NDArray[np.uint8]]:
    """All pictures of the scene as luma samples in the limited range 16..235."""
    noise = np.random.default_rng(scene.seed)
    still = background(scene)
    centres, headings = paths(scene)
    pictures = []
    for centre, heading in zip(centres, headings, strict=True):
        picture = still.copy()
        for i in range(2):
            draw_animal(picture, centre[i], heading[i], scene.semi_axes[i], scene.animal)
        picture += noise.normal(0, 2.0, picture.shape)
        pictures.append(np.clip(np.rint(picture), 16, 235).astype(np.uint8))
    return pictures


def write_video(scene: Scene, path: Path) -> None:
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    if scene.audio:
        options["video_track_timescale"] = str(scene.time_base.denominator)
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=None if scene.audio else 1 / scene.time_base)
        video.width, video.height, video.pix_fmt = scene.width, scene.height, "yuv420p"
        video.codec_context.time_base = scene.time_base
        video.codec_context.thread_count = 1
        video.options = {
            "crf": "24",
            "preset": "slow",
            "g": str(KEYFRAME_INTERVAL),
            "bf": str(scene.b_frames),
            # With mbtree, variable frame durations gave different bits from run to run.
            "x264-params": "scenecut=0:mbtree=0",
        }
        sound = container.add_stream("aac", rate=44100, layout="mono") if scene.audio else None
        for pts, luma in zip(scene.pts, render(scene), strict=True):
            frame = gray_frame(luma)
            frame.pts, frame.time_base = pts, scene.time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            sound.bit_rate = 32000
            for block in sine_blocks(float(scene.pts[-1] * scene.time_base)):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))


def gray_frame(luma: NDArray[np.uint8]) -> av.VideoFrame:
    """A yuv420p picture with this luma and no colour."""
    height, width = luma.shape
    chroma = np.full(2 * ((height + 1) // 2) * ((width + 1) // 2), 128, np.uint8)
    planes = np.concatenate([luma.ravel(), chroma]).reshape(height * 3 // 2, width)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def sine_blocks(seconds: float, rate: int = 44100, hertz: float = 440.0) -> list[av.AudioFrame]:
    wave = 0.2 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    blocks = []
    for start in range(0, len(wave), 1024):
        samples = wave[None, start : start + 1024].astype(np.float32)
        block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
        blocks.append(block)
    return blocks


def write_truth(scene: Scene, path: Path) -> None:
    centres, _ = paths(scene)
    lines = ["frame\ttime\tx1\ty1\tx2\ty2"]
    for frame, (pts, xy) in enumerate(zip(scene.pts, centres, strict=True)):
        positions = "\t".join(f"{value:.3f}" for value in xy.ravel())
        lines.append(f"{frame}\t{float(pts * scene.time_base):.6f}\t{positions}")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().out
    for scene in SCENES:
        write_video(scene, folder / f"{scene.name}.mp4")
        write_truth(scene, folder / f"{scene.name}.truth.tsv")


if __name__ == "__main__":
    main()
