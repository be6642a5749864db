"""While a run works, its summary has the state of each video."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pvio.cache.atomic import write_json
from pvio.config.settings import Settings, parse_settings
from pvio.layout import REPORT_FILE, RUN_FILE, SUMMARY_FILE
from pvio.pipeline.planning.keys import made_with
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.pipeline.progress.files import VideoStates
from pvio.pipeline.publishing.folders import publishing_folder, remove_other_next
from pvio.pipeline.publishing.live_summary import LiveSummary
from pvio.pipeline.publishing.published_products import PublishedProducts
from pvio.pipeline.results.products import Products
from pvio.pipeline.results.snapshot import Snapshot
from pvio.pipeline.results.summary import SummaryRow, first_row, read_summary, summary_table

NAMES = ("a", "b", "c", "d")
UNREADABLE = "d"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of four videos in the working folder, without a frame size; one is unreadable."""
    monkeypatch.chdir(tmp_path)
    plan = planned()
    write_json("work/plan.json", plan)
    return plan


def planned(**model: Any) -> Plan:
    settings: Settings = parse_settings({"model": model})
    videos = [
        ProbedVideo(name, f"/v/{name}.mp4", digest=f"digest of {name}", n_frames=5)
        if name != UNREADABLE
        else ProbedVideo(name, f"/v/{name}.mp4", status="unreadable", reason="it is empty")
        for name in NAMES
    ]
    segments = [PlannedSegment(n, 0, 5, 1.0, 1.0) for n in range(3)]
    return Plan(videos, segments, [[0, 1, 2]], [[0, 1, 2]], made_with(settings, "fingerprint"))


def states(stage: str = "infer", shard: str = "1-of-1") -> VideoStates:
    return VideoStates(Path(f"work/progress/{stage}/{shard}.videos.jsonl"))


def publish(plan: Plan, *names: str) -> PublishedProducts:
    """Publish tables of videos, as a job does."""
    folder = publishing_folder("results", plan.made_with)
    assert folder is not None
    products = PublishedProducts(
        folder, "infer-1-of-1", [f"predictions/{n}.parquet" for n in NAMES]
    )
    for name in names:
        video = next(video for video in plan.videos if video.name == name)
        products.make(
            f"predictions/{name}.parquet", video.digest, [name], lambda path: write(path, "rows")
        )
        products.note_row(replace(first_row(video), status="ok", frames=5, ok=5))
    return products


def write(path: Path, text: str) -> None:
    path.write_text(text)


def found(folder: str = "results") -> dict[str, str]:
    """Status by name in the summary; the reason of a failure follows it."""
    rows = read_summary(f"{folder}/{SUMMARY_FILE}")
    return {row["name"]: f"{row['status']} {row['reason']}".strip() for row in rows}


def test_the_summary_follows_the_run(run: Plan):
    live, jobs = LiveSummary("results", 0.0), states()
    assert live.update()
    assert not Path("results").exists()  # nothing has begun
    publishing_folder("results", run.made_with)
    jobs.note(0, "running")
    assert live.update()
    assert found() == {
        "a": "running", "b": "waiting", "c": "waiting", "d": "unreadable it is empty"
    }  # fmt: skip
    products = publish(run, "a")
    jobs.note(1, "running")
    jobs.note(1, "failed", "frame 3: no")
    jobs.note(2, "running")
    assert live.update()
    assert found() == {
        "a": "ok", "b": "failed frame 3: no", "c": "running", "d": "unreadable it is empty"
    }  # fmt: skip
    assert read_summary("results/summary.tsv")[0]["frames"] == "5"
    page = Path("results", REPORT_FILE).read_text()
    live.stop()
    assert found()["c"] == "waiting"  # as when the run ended with an error
    assert Path("results", REPORT_FILE).read_text() != page
    assert products.folder == Path("results").resolve()


def test_a_failure_stays_until_its_job_begins_again(run: Plan):
    live = LiveSummary("results", 0.0)
    publish(run)
    states(shard="1-of-2").note(0, "failed", "no")
    states(shard="2-of-2").note(0, "running")
    live.update()
    assert found()["a"] == "failed no"
    time.sleep(0.01)
    states(shard="1-of-2")
    live.update()
    assert found()["a"] == "running"


def test_what_an_earlier_run_finished_is_ok_at_once(run: Plan):
    """Its products are of the present files; others of its lines are not believed."""
    publish(run, "a", "b")
    rows = [replace(first_row(video), status="ok", frames=5) for video in run.videos]
    Path("results", SUMMARY_FILE).write_text(summary_table(rows))
    Path("results/predictions/b.parquet").unlink()
    since = time.time()
    os.utime("results/summary.tsv", (since - 9, since - 9))
    states().note(2, "running")
    live = LiveSummary("results", since - 1)
    live.update()
    assert found() == {
        "a": "ok", "b": "waiting", "c": "running", "d": "unreadable it is empty"
    }  # fmt: skip


def test_states_of_an_earlier_run_do_not_count(run: Plan):
    publish(run)
    states().note(0, "running")
    live = LiveSummary("results", time.time() + 60)
    assert live.update()
    assert not Path("results", SUMMARY_FILE).exists()


def test_results_that_the_last_stage_has_put_there_are_not_changed(run: Plan):
    live = LiveSummary("results", 0.0)
    publish(run, "a")
    states().note(1, "running")
    live.update()
    snapshot = Snapshot("results")
    Products(snapshot).publish(
        {
            SUMMARY_FILE: lambda path: write(path, "name\tstatus\n"),
            RUN_FILE: lambda path: write_json(path, run.made_with),
        }
    )
    states().note(1, "failed", "no")
    assert not live.update()
    live.stop()
    assert Path("results", SUMMARY_FILE).read_text() == "name\tstatus\n"
    assert sorted(os.listdir("results")) == [".products.json", ".run.json", "summary.tsv"]


def test_a_summary_of_the_users_is_set_aside(run: Plan):
    Path("results").mkdir()
    Path("results", SUMMARY_FILE).write_text("mine")
    publish(run, "a")
    states().note(1, "running")
    LiveSummary("results", 0.0).update()
    assert found()["a"] == "ok"
    assert Path("results", f"{SUMMARY_FILE}.old").read_text() == "mine"


def test_the_summary_of_other_settings_is_beside_the_old_one_and_goes_with_them(run: Plan):
    publish(run, "a")
    other = planned(batch_size=7)
    write_json("work/plan.json", other)
    publish(other, "b")
    states().note(2, "running")
    live = LiveSummary("results", 0.0)
    live.update()
    assert found("results.next") == {
        "a": "waiting", "b": "ok", "c": "running", "d": "unreadable it is empty"
    }  # fmt: skip
    assert not Path("results", SUMMARY_FILE).exists()
    remove_other_next("results", run.made_with)
    assert not Path("results.next").exists()


def test_twenty_thousand_videos_take_a_second(run: Plan):
    videos = [ProbedVideo(f"v{n}", f"/v/v{n}.mp4", digest=f"{n}") for n in range(20_000)]
    write_json("work/plan.json", replace(run, videos=videos, segments=[]))
    publishing_folder("results", run.made_with)
    jobs, live = states(), LiveSummary("results", 0.0)
    jobs.note(0, "running")
    live.update()  # reads the plan
    jobs.note(1, "running")
    began = time.process_time()
    live.update()
    assert time.process_time() - began < 1
    assert found()["v1"] == "running"


def test_rows_survive_a_journal(run: Plan):
    publish(run, "a")
    row = SummaryRow("a", "/v/a.mp4", "ok", frames=5, ok=5)
    states().note(1, "running")
    LiveSummary("results", 0.0).update()
    assert read_summary("results/summary.tsv")[0] == {
        name: str(value) for name, value in vars(row).items()
    }
