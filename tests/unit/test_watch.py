"""`pvio watch`: what it shows of a run that another process started."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from pvio.cache.atomic import write_json
from pvio.cli.watch import View, render, watch
from pvio.config.settings import parse_settings
from pvio.pipeline.planning.keys import made_with
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.pipeline.planning.resources import JobResources, write_shard_plans
from pvio.pipeline.progress.files import JobProgress, ProgressFile, VideoStates
from pvio.pipeline.publishing.folders import publishing_folder
from pvio.pipeline.results.summary import SummaryRow

VIDEOS = [ProbedVideo(name, f"/v/{name}.mp4", digest=name, n_frames=100) for name in "abc"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which a run of three videos has a plan."""
    monkeypatch.chdir(tmp_path)
    settings = parse_settings({"output": {"video": "none"}})
    segments = [PlannedSegment(number, 0, 100, 10.0, 0.0) for number in range(3)]
    plan = Plan(VIDEOS, segments, [[0, 1, 2]], [], made_with(settings, "fingerprint"))
    write_json("work/plan.json", plan)
    write_shard_plans(tmp_path / "work/shards", plan, {"infer": [JobResources(30.0, 1, 300)]})
    publishing_folder("results", plan.made_with)
    return tmp_path


def lock(folder: Path) -> Path:
    path = folder / ".snakemake/locks/0.output.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def work(folder: Path) -> None:
    """As a job that is at one video, and has failed at another."""
    states = VideoStates(folder / "work/progress/infer/1-of-1.videos.jsonl")
    states.note(0, "running")
    states.note(1, "failed", "frame 3: division by zero")
    ProgressFile(folder / "work/progress/infer/1-of-1.json").write(JobProgress(40, 300, 0, 1))


def shown() -> list[str]:
    """The lines, with single spaces."""
    stream = io.StringIO()
    watch("results", Console(file=stream, width=100))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_it_shows_the_line_of_progress_and_the_state_of_each_video(folder: Path):
    lock(folder)
    work(folder)
    assert shown() == [
        "0 of 3 videos finished, 1 failed; infer 40 of 300 frames",
        "state video reason",
        "failed b frame 3: division by zero",
        "running a",
        "waiting c",
        "1 failed, 1 running, 1 waiting",
    ]


def test_a_run_before_its_plan_and_a_folder_without_a_run(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    work(folder)  # of a run that ended
    first, *rest = shown()
    assert first.startswith("no run works in this folder; the last one: 0 of 3 videos")
    assert "waiting a" in rest  # nothing is at work any more
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    assert shown() == ["no run works in this folder"]
    lock(empty)
    assert shown() == ["the run has no plan yet"]


def test_videos_beyond_the_height_of_the_terminal_are_counted():
    rows = [SummaryRow(f"v{number}", f"/v{number}", "ok") for number in range(7)]
    console = Console(file=io.StringIO(), width=60, record=True)
    console.print(render(View("a line", [*rows, SummaryRow("bad", "/bad", "failed")], True), 3))
    text = console.export_text()
    assert text.splitlines()[2].split() == ["failed", "bad"]
    assert "1 failed, 7 ok; 5 more videos are not shown" in text
    assert len(text.splitlines()) == 6


def test_a_terminal_shows_the_run_until_it_ends(folder: Path, monkeypatch: pytest.MonkeyPatch):
    held = lock(folder)
    work(folder)
    pauses: list[float] = []

    def end_after_two(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            held.unlink()

    monkeypatch.setattr("pvio.cli.watch.time.sleep", end_after_two)
    stream = io.StringIO()
    watch("results", Console(file=stream, width=100, height=20, force_terminal=True))
    assert len(pauses) == 2
    assert stream.getvalue().count("1 failed, 1 running, 1 waiting") == 2
    assert "no run works in this folder" in stream.getvalue().split("1 running")[-1]
