"""Mistakes in the settings, broken videos, models that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import Project, make_clip

NO_VIDEO = {"video": "none"}
MODEL = {"entry": "brightness.py:Brightness"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outputs": {"video": "none"}}, "outputs: unknown key; did you mean 'output'?"),
        ({"output": {"crf": 99}}, "output.crf"),
        ({"videos": ["nowhere/*.mp4"]}, "no file matches the pattern 'nowhere/*.mp4'"),
        ({"model": {"entry": "nowhere.py:Model"}}, "there is no file nowhere.py"),
        ({"model": {"weights": "nowhere.pth"}}, "there is no file nowhere.pth"),
    ],
)
def test_a_wrong_setting_is_one_readable_error_before_any_job(
    new_project: Callable[[], Project], settings: dict[str, object], message: str
) -> None:
    project = new_project()
    make_clip(project.folder / "a.mp4")
    done = project.snakemake(**{"videos": ["a.mp4"], **settings})
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in text
    assert "Traceback" not in text
    assert not (project.folder / "work").exists()


@pytest.fixture
def mixed(new_project: Callable[[], Project]) -> Project:
    """A good clip, a text file, an empty file, one without video, one cut off in the middle."""
    project = new_project()
    clips = project.folder / "clips"
    make_clip(clips / "good.mp4")
    make_clip(clips / "cut.mp4", frames=40, options="-g 10 -movflags +faststart")
    whole = (clips / "cut.mp4").read_bytes()
    (clips / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (clips / "text.mp4").write_text("this is no video")
    (clips / "empty.mp4").write_bytes(b"")
    return project


def test_broken_videos_are_reported_and_the_others_go_on(mixed: Project) -> None:
    settings = {"videos": ["clips", "gone.mp4"], "model": MODEL, "output": NO_VIDEO}
    mixed.run(**settings)
    rows = mixed.summary()
    status = {Path(name).name: row["status"] for name, row in rows.items()}
    assert status == {
        "good": "ok",
        "cut": "damaged",
        "text": "unreadable",
        "empty": "unreadable",
        "gone": "unreadable",
    }
    assert rows["clips/cut"]["frames"] == "40"  # the index at the front of the file counts
    assert 0 < int(rows["clips/cut"]["ok"]) < 40
    assert rows["clips/empty"]["reason"] == "the file is empty"
    assert "clips/text" in (mixed.folder / "results/report.html").read_text()

    done = mixed.snakemake(**settings, on_damaged="fail")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    for name in ("cut.mp4", "text.mp4", "empty.mp4", "gone.mp4"):
        assert name in text
    assert "rule infer" not in text  # all results are there already


def test_a_model_that_fails_on_one_video_leaves_the_others_finished(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "clips/small.mp4")
    make_clip(project.folder / "clips/large.mp4", size="128x96")
    (project.folder / "picky.py").write_text(
        "def model(frames):\n"
        "    if frames.shape[-1] > 64 and not __import__('os').path.exists('mended'):\n"
        "        raise RuntimeError('too large for me')\n"
        "    return frames.mean(dim=(1, 2, 3))\n"
    )
    settings = {
        "videos": ["clips"],
        "shards": 1,
        "model": {"entry": "picky.py:model"},
        "output": NO_VIDEO,
    }
    done = project.snakemake(**settings)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "large frames 0 to 19" in text
    assert "too large for me" in text
    assert "Traceback" in project.logs()
    # The world changes, the code does not: the finished segment is not computed again.
    (project.folder / "mended").touch()
    project.run(**settings)
    assert project.n_computed("infer") == 1
    assert {row["status"] for row in project.summary().values()} == {"ok"}
