"""`pvio status` and `pvio clean` around runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import Project, make_clip

from pvio.layout import KINDS

MODEL = {"entry": "brightness.py:Brightness"}
OUTPUT = {"video": "overlay", "preset": "ultrafast"}


def settings(**more: object) -> dict[str, Any]:
    return {"videos": ["clips"], "segment_frames": 20, "model": MODEL, "output": OUTPUT, **more}


def pvio(project: Project, *arguments: str, **config: Any) -> str:
    """What a command prints, with these settings as config.yaml."""
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "pvio", *arguments],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    project = new_project()
    make_clip(project.folder / "clips/long.mp4", frames=60, options="-g 10")
    make_clip(project.folder / "clips/short.mp4", frames=12)
    (project.folder / "clips/broken.mp4").write_bytes(b"no video")
    return project


def test_status_shows_what_is_finished_what_is_stale_and_why(project: Project) -> None:
    clips = project.folder / "clips"
    text = pvio(project, "status", **settings())
    assert "3 videos: 0 finished, 3 to do, 0 unreadable" in text
    assert f"new: {clips / 'broken.mp4'}, {clips / 'long.mp4'}, {clips / 'short.mp4'}" in text

    project.stages(**settings())
    text = pvio(project, "status", **settings())
    assert "3 videos: 2 finished, 0 to do, 1 unreadable" in text
    assert "nothing to compute" in text
    assert "72 of 72 frames, 4 of 4 segments done" in text

    # A new video, another content, other arguments, other options.
    make_clip(clips / "more.mp4", frames=15)
    make_clip(clips / "short.mp4", frames=13)
    text = pvio(project, "status", **settings())
    assert f"new: {clips / 'more.mp4'}" in text
    assert f"to do since its file changed: {clips / 'short.mp4'}" in text
    assert "infer   60 of 60 frames" in text

    text = pvio(project, "status", **settings(model={**MODEL, "args": {"factor": 2.0}}))
    assert f"to do since model.args changed: {clips / 'long.mp4'}" in text
    assert "segment_frames changed" not in text
    assert "infer   0 of 60 frames, 0 of 3 segments done; about" in text
    text = pvio(project, "status", **settings(output={**OUTPUT, "crf": 30}))
    assert f"to do since output.crf changed: {clips / 'long.mp4'}" in text
    assert "infer   60 of 60" in text
    assert "encode  0 of 60 frames" in text
    (project.folder / "brightness.py").write_text(
        (project.folder / "brightness.py").read_text() + "\n# another\n"
    )
    text = pvio(project, "status", **settings())
    assert "to do since the model's code or weights changed" in text


def test_status_is_data_for_programs(project: Project) -> None:
    found = json.loads(pvio(project, "status", "--json", **settings()))
    assert found["videos"] == 3
    assert found["stages"][0]["stage"] == "infer"


SLOW = """
import time

def model(frames):
    time.sleep(1.5)
    return frames.mean(dim=(1, 2, 3))
"""


def test_status_shows_the_progress_of_a_run(project: Project) -> None:
    (project.folder / "slow.py").write_text(SLOW)
    slow = settings(model={"entry": "slow.py:model", "batch_size": 10}, output={"video": "none"})
    with project.started(**slow, shards=1) as process:
        while len(list(project.folder.glob(".pvio/predictions/*/*"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1.2)
        text = pvio(project, "status", **slow)
        process.communicate(timeout=120)
    assert "Snakemake is running in this folder" in text
    assert "frames/s, about" in text


def test_status_names_what_failed_and_the_log(project: Project) -> None:
    (project.folder / "failing.py").write_text(
        "def model(frames):\n    raise ValueError('no eyes')\n"
    )
    failing = settings(model={"entry": "failing.py:model"}, output={"video": "none"})
    assert project.tried_stages(**failing).returncode != 0
    text = pvio(project, "status", **failing)
    assert "failed, see logs/assemble.log: " in text
    assert "videos failed, and no other video has results" in text
    assert "no eyes" in text


def entries(folder: Path) -> set[str]:
    return {f"{kind}/{path.name}" for kind in KINDS for path in folder.glob(f"{kind}/*/*")}


def age(folder: Path) -> None:
    """Make all entries a day old."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 86400,) * 2)


def test_clean_removes_what_nothing_refers_to(project: Project, tmp_path: Path) -> None:
    cache = tmp_path / "shared cache"
    shared = settings(cache=str(cache))
    other = Project(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "brightness.py").write_text((project.folder / "brightness.py").read_text())
    make_clip(other.folder / "clips/other.mp4", frames=18)
    other.stages(**settings(cache=str(cache), output={"video": "none"}))
    of_other = entries(cache)

    first = settings(cache=str(cache), model={**MODEL, "args": {"factor": 3.0}})
    project.stages(**first)
    project.stages(**shared)
    everything = entries(cache)
    age(cache)
    (cache / "tmp/.0abcdef0_1-12-0123456789ab.tmp").write_text("left by a killed job")
    age(cache / "tmp")
    text = pvio(project, "clean", "--unused", "--yes", **shared)
    kept = entries(cache)
    assert "unused: 4 predictions entries" in text
    assert "unused: 4 released entries" in text
    assert str(other.folder) in text
    assert of_other <= kept
    assert len(everything - kept) == 8  # both drew nothing: their videos are the same
    assert list((cache / "tmp").iterdir()) == []

    # Nothing that is needed is removed: both runs have nothing to compute.
    project.stages(**shared)
    assert project.n_computed("infer") == project.n_computed("encode") == 0
    other.stages(**settings(cache=str(cache), output={"video": "none"}))
    assert other.n_computed("infer") == 0
    assert "nothing to remove" in pvio(project, "clean", "--unused", "--yes", **shared)

    # Whether a folder is removed or its disk is away, only its owner knows.
    shutil.rmtree(other.folder)
    assert "nothing to remove" in pvio(project, "clean", "--unused", "--yes", **shared)
    forget = ("--forget", str(other.folder))
    text = pvio(project, "clean", "--unused", "--yes", *forget, **shared)
    assert "unused: 1 predictions entries" in text


def test_clean_spares_what_a_run_needs_whose_plan_is_being_made(project: Project) -> None:
    project.stages(**settings(output={"video": "none"}))
    age(project.folder / ".pvio")
    (project.folder / "work/plan.json").unlink()  # as Snakemake does before it runs a job
    changed = settings(model={**MODEL, "args": {"factor": 2.0}}, output={"video": "none"})
    assert "nothing to remove" in pvio(project, "clean", "--unused", "--yes", **changed)


def test_clean_asks_first_and_spares_what_is_young(project: Project) -> None:
    project.stages(**settings(output={"video": "none"}))
    age(project.folder / ".pvio")
    changed = settings(model={**MODEL, "args": {"factor": 2.0}}, output={"video": "none"})
    project.stages(**changed)
    done = subprocess.run(
        [sys.executable, "-m", "pvio", "clean", "--unused", "--config", json.dumps(changed)],
        cwd=project.folder,
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unused: 4 predictions entries" in done.stdout
    assert "Remove them" in done.stdout
    assert len(list(project.folder.glob(".pvio/predictions/*/*"))) == 8
