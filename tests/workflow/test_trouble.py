"""Mistakes in the settings, broken videos, models that fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import HANGING_DECODER, Project, make_clip

import pvio

NO_VIDEO = {"video": "none"}
MODEL = {"entry": "brightness.py:Brightness"}


def thorough(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.thorough)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # One from each place that looks: the settings, the collection, the model.
        ({"outputs": {"video": "none"}}, "outputs: unknown key; did you mean 'output'?"),
        ({"videos": ["nowhere/*.mp4"]}, "no file matches the pattern 'nowhere/*.mp4'"),
        ({"model": {"entry": "brightness.py:Brightnes"}}, "did you mean 'Brightness'?"),
        thorough({"output": {"crf": 99}}, "output.crf"),
        thorough({"model": {"entry": "nowhere.py:Model"}}, "there is no file nowhere.py"),
        thorough({"model": {"weights": "nowhere.pth"}}, "there is no file nowhere.pth"),
        thorough(
            {"output": "none"}, "output: expected a section of keys such as video, got 'none'"
        ),
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


def test_a_broken_copy_that_is_repaired_is_computed_again(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    clip = make_clip(project.folder / "clips/a.mp4", frames=60, size="320x240", options="-g 10")
    whole = clip.read_bytes()
    # All payload zero, header intact: every frame is there and none can be decoded.
    start = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[start - 8 : start - 4], "big") - 8
    clip.write_bytes(whole[:start] + bytes(size) + whole[start + size :])
    make_clip(project.folder / "clips/good.mp4")
    settings = {"videos": ["clips"], "output": NO_VIDEO}  # the tracker looks at the video first
    project.stages(**settings)
    assert project.summary()["a"]["ok"] == "0"
    assert project.summary()["good"]["status"] == "ok"
    clip.write_bytes(whole)
    project.stages(**settings)
    assert project.summary()["a"]["ok"] == "60"


def test_two_thousand_videos_can_be_named_one_by_one(new_project: Callable[[], Project]) -> None:
    project = new_project()
    clip = make_clip(project.folder / "original.mp4", frames=1, size="16x16")
    names = [f"clips/a video with a rather long name, number {i}.mp4" for i in range(2000)]
    (project.folder / "clips").mkdir()
    for name in names:
        (project.folder / name).hardlink_to(clip)
    (project.folder / "my.yaml").write_text("videos:\n" + "".join(f"- '{n}'\n" for n in names))
    project.run("--configfile", "my.yaml", "--until", "plan")
    assert "2000 videos, 2000 frames, 0 unreadable" in project.logs()


@pytest.mark.parametrize("kind", ["predictions", "product"])
def test_a_damaged_cache_entry_is_repaired(new_project: Callable[[], Project], kind: str) -> None:
    project = new_project()
    make_clip(project.folder / "a.mp4")
    settings = {"videos": ["a.mp4"], "model": MODEL, "shards": 1}
    project.stages(**settings)
    results = project.folder / "results"
    before = {path.name: path.read_bytes() for path in results.rglob("a.*")}
    (entry,) = (project.folder / f".pvio/{kind}").glob("*/*")
    data = bytearray(entry.read_bytes())
    data[100] ^= 1
    entry.write_bytes(data)
    for path in results.rglob("a.*"):
        path.unlink()
    project.stages(**settings)
    assert "is damaged: its digest does not match" in project.logs()
    assert {path.name: path.read_bytes() for path in results.rglob("a.*")} == before


def test_damaged_predictions_are_repaired_when_they_are_to_be_drawn(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "a.mp4")
    settings = {"videos": ["a.mp4"], "model": MODEL, "shards": 1}
    project.stages(**settings)
    (entry,) = (project.folder / ".pvio/predictions").glob("*/*")
    entry.write_bytes(b"x" + entry.read_bytes()[1:])
    changed = {**settings, "output": {"crf": 30}}
    project.stages(**changed)
    assert project.n_computed("encode") == 1
    log = (project.folder / "logs/encode/1-of-1.log").read_text()
    assert "is damaged: its digest does not match; it is computed again" in log
    assert project.summary()["a"]["status"] == "ok"
    # What is cut short is noticed without reading it.
    entry.write_bytes(entry.read_bytes()[:-5])
    project.stages(**changed)
    assert project.n_computed("infer") == 1
    assert "it is computed again" in project.logs()


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


def test_broken_videos_are_reported_and_the_others_continue(mixed: Project) -> None:
    settings = {"videos": ["clips", "gone.mp4"], "model": MODEL, "output": NO_VIDEO}
    text = mixed.run(**settings)
    assert "4 of 5 videos are not ok: see results/summary.tsv" in text
    rows = mixed.summary()
    status = {Path(name).name: row["status"] for name, row in rows.items()}
    assert status == {
        "good": "ok",
        "cut": "damaged",
        "text": "unreadable",
        "empty": "unreadable",
        "gone": "unreadable",
    }
    assert rows["cut"]["frames"] == "40"  # the index at the front of the file counts
    assert 0 < int(rows["cut"]["ok"]) < 40
    assert rows["empty"]["reason"] == "the file is empty"
    assert re.fullmatch(
        r"it is cut off: \d+ of \d+ bytes are there; of 40 rows (\d+ suspect, )?\d+ missing",
        rows["cut"]["reason"],
    )
    assert "clips/text.mp4" in (mixed.folder / "results/report.html").read_text()

    done = mixed.snakemake(**settings, on_damaged="fail")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    for name in ("cut.mp4", "text.mp4", "empty.mp4", "gone.mp4"):
        assert name in text
    assert "rule infer" not in text  # all results are there already


def test_a_video_that_is_removed_during_the_run_is_reported(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "clips/a.mp4")
    make_clip(project.folder / "clips/b.mp4")
    settings = {"videos": ["clips"], "model": MODEL, "output": NO_VIDEO}
    project.run("--until", "plan", **settings)
    (project.folder / "clips/a.mp4").unlink()
    # Only what the plan asks for: a full run would see that the collection has changed.
    project.run("--rerun-triggers", "mtime", **settings)
    assert project.summary()["a"]["status"] == "unreadable"
    assert project.summary()["a"]["reason"] == "no such file or directory"
    assert project.summary()["b"]["status"] == "ok"
    project.stages(**settings)
    assert set(project.summary()) == {"b"}


def test_a_model_that_fails_on_one_video_leaves_the_others_their_results(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    make_clip(project.folder / "clips/small.mp4")
    make_clip(project.folder / "clips/large.mp4", size="128x96")
    (project.folder / "picky.py").write_text(
        "def model(frames):\n"
        "    if frames.shape[-1] > 64 and not __import__('os').path.exists('fixed'):\n"
        "        raise RuntimeError('too large for me')\n"
        "    return frames.mean(dim=(1, 2, 3))\n"
    )
    settings = {
        "videos": ["clips"],
        "shards": 1,
        "model": {"entry": "picky.py:model"},
        "output": NO_VIDEO,
    }
    done = project.tried_stages(**settings)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "clips/large.mp4: failed, frames 0 to 19 failed: " in text
    assert "too large for me" in text
    assert project.summary()["small"]["status"] == "ok"
    assert "Traceback" in project.logs()
    # The world changes, the code does not: the finished segment is not computed again.
    (project.folder / "fixed").touch()
    project.stages(**settings)
    assert project.n_computed("infer") == 1
    assert {row["status"] for row in project.summary().values()} == {"ok"}


def test_a_decoder_that_hangs_costs_frames_of_one_video(
    new_project: Callable[[], Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = new_project()
    clips = project.folder / "clips"
    make_clip(clips / "bad.mp4", frames=40, options="-g 10")
    make_clip(clips / "good.mp4", frames=30, options="-g 10")
    customize = project.folder / "path/sitecustomize.py"
    customize.parent.mkdir()
    customize.write_text(HANGING_DECODER.format(number=14, name="bad.mp4"))
    monkeypatch.setenv("PYTHONPATH", str(customize.parent))
    settings = {"videos": ["clips"], "model": MODEL, "shards": 1}
    project.run(**settings, decoder_timeout=3)
    summary = project.summary()
    assert summary["good"]["status"] == "ok"
    assert summary["bad"]["status"] == "damaged"
    assert summary["bad"]["reason"] == "of 40 rows 6 missing; the decoder hung at frame 14"
    rows = pvio.read_predictions(project.folder / "results/predictions/bad.parquet")
    assert list(np.flatnonzero(rows["status"] == "missing")) == list(range(14, 20))
    assert list(np.flatnonzero(np.isnan(rows["brightness"]))) == list(range(14, 20))

    # Nothing is tried again without a longer timeout; with it, only what was skipped.
    customize.unlink()
    project.stages(**settings, decoder_timeout=3)
    assert project.n_computed("infer") == 0
    project.stages(**settings, decoder_timeout=60)
    assert project.n_computed("infer") == 1
    assert project.n_computed("encode") == 1
    assert project.summary()["bad"]["status"] == "ok"
    rows = pvio.read_predictions(project.folder / "results/predictions/bad.parquet")
    assert set(rows["status"]) == {"ok"}
