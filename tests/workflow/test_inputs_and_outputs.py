"""Collections of every form, names of every kind, and the frames a model returns."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import av
import imageio.v3 as iio
import numpy as np
from projects import Project, make_clip

import pvio

MODEL = {"entry": "brightness.py:Brightness"}


def test_files_globs_folders_images_and_lists_with_any_name(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    folder = project.folder
    make_clip(folder / "one file.mp4", frames=5)
    make_clip(folder / "day 1/mouse.mp4", frames=6)
    make_clip(folder / "day 2/mouse.mp4", frames=7)
    make_clip(folder / "day 2/mouse.mkv", frames=8)
    make_clip(folder / "глоб/ünï'cödé $HOME;.mp4", frames=9)
    make_clip(folder / "listed/in list.mp4", frames=10)
    (folder / "listed/list.txt").write_text("# comment\nin list.mp4\n")
    (folder / "images").mkdir()
    for i in range(11):
        iio.imwrite(folder / f"images/{i:03}.png", np.full((48, 64), i * 20, np.uint8))
    project.stages(
        videos=["one file.mp4", "day *", "глоб/*.mp4", "listed/list.txt", "images"],
        model=MODEL,
        output={"video": "overlay", "preset": "ultrafast"},
    )
    expected = {
        "one file": 5,
        "day 1/mouse": 6,
        "day 2/mouse.mp4": 7,
        "day 2/mouse.mkv": 8,
        "ünï'cödé $HOME;": 9,
        "in list": 10,
        "images": 11,
    }
    for name, frames in expected.items():
        rows = pvio.read_predictions(folder / f"results/predictions/{name}.parquet")
        assert len(rows["frame"]) == frames, name
        with av.open(str(folder / f"results/videos/{name}.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == frames, name
    assert set(project.summary()) == set(expected)
    images = pvio.read_predictions(folder / "results/predictions/images.parquet")
    np.testing.assert_allclose(images["brightness"], np.arange(11) * 20 / 255, atol=1e-6)


def test_frames_that_the_model_returns_become_the_video(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "a.mp4", frames=25, options="-g 10")
    (project.folder / "negative.py").write_text(
        "def model(frames):\n"
        "    return {'frames': 1 - frames, 'mean': frames.mean(dim=(1, 2, 3))}\n"
    )
    text = project.run(
        videos=["a.mp4"],
        segment_frames=10,
        model={"entry": "negative.py:model", "channels": "rgb"},
        output={"video": "frames", "crf": 1},
    )
    assert "rule encode" not in text
    source, _ = pvio.read_frames_from_video(project.folder / "a.mp4")
    result, _ = pvio.read_frames_from_video(project.folder / "results/videos/a.mp4")
    assert len(result) == 25
    difference = np.abs(np.stack(result).astype(int) - (255 - np.stack(source).astype(int)))
    # 4:2:0 chroma blurs the test frame's hard color edges; flat areas agree.
    assert np.median(difference) <= 3
    rows = pvio.read_predictions(project.folder / "results/predictions/a.parquet")
    assert set(rows) == {"frame", "pts", "time", "status", "mean"}


def test_the_commands_that_the_rules_call_can_be_typed_by_a_person(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "a.mp4")
    (project.folder / "config.yaml").write_text(
        "videos: a.mp4\nmodel: {entry: 'brightness.py:Brightness'}\noutput: {video: none}\n"
    )
    for command in (
        "pvio probe --out probe.json",
        "pvio plan --probe probe.json --shards 2 --out plan.json",
        "pvio infer --plan plan.json --shard 1-of-2 --out receipts/1.json",
        "pvio infer --plan plan.json --shard 2-of-2 --out receipts/2.json",
        "pvio assemble --plan plan.json receipts",
        "pvio check",
    ):
        done = subprocess.run(
            command, shell=True, cwd=project.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    rows = pvio.read_predictions(project.folder / "results/predictions/a.parquet")
    assert len(rows["frame"]) == 20
    assert (project.folder / "results/report.html").exists()
