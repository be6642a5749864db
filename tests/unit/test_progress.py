"""Notes of jobs add up to the state of a run; a line shows it, and makes room for other lines."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import time
from pathlib import Path

import pytest

from pvio.layout import Stage
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo
from pvio.pipeline.planning.resources import JobResources, Resources, write_shard_plans
from pvio.pipeline.progress.files import JobProgress, ProgressFile, read_progress
from pvio.pipeline.progress.line import ProgressLine, describe, describe_end, describe_start
from pvio.pipeline.progress.overview import Forecast, Overview, OverviewReader, StageOverview

VIDEOS = [ProbedVideo(name, f"/{name}.mp4", digest=name, n_frames=100) for name in "abcd"]
SEGMENTS = [PlannedSegment(number, 0, 100, 10.0, 20.0) for number in range(4)]


def planned(folder: Path, where: str = "results") -> None:
    """The plan of four videos on two shards of each stage, one video of which is finished."""
    resources: Resources = {
        "infer": [JobResources(20.0, 1, 200), JobResources(10.0, 1, 100)],
        "encode": [JobResources(40.0, 1, 200), JobResources(20.0, 1, 100)],
    }
    unreadable = ProbedVideo("e", "/e.mp4", status="unreadable", reason="no frames")
    shards = [[0, 1], [2, 3]]
    plan = Plan([*VIDEOS, unreadable], SEGMENTS, shards, shards, {}, n_finished=1)
    write_shard_plans(folder / "work/shards", plan, resources, where=where)


def note(folder: Path, stage: Stage, shard: str, *numbers: int) -> None:
    path = folder / "work/progress" / stage / f"{shard}.json"
    ProgressFile(path).write(JobProgress(*numbers))


def test_notes_add_up(tmp_path: Path):
    began = time.time() - 5
    assert OverviewReader(tmp_path, began).read() is None  # no plan yet
    planned(tmp_path, "results.next")
    reader = OverviewReader(tmp_path, began)
    found = reader.read()
    assert found is not None
    assert (found.videos, found.unreadable, found.finished) == (4, 1, 1)
    assert found.where == "results.next"
    assert found.current is None
    assert found.stages["infer"].total == found.stages["encode"].total == 300
    note(tmp_path, "infer", "1-of-2", 50, 200, 0, 1)
    note(tmp_path, "infer", "2-of-2", 90, 90, 1, 0)  # another job has found ten frames
    found = reader.read()
    assert found is not None
    infer = found.stages["infer"]
    assert (infer.done, infer.total) == (140, 290)
    # The second job has a tenth less to do than was planned, of 10 s.
    assert (infer.seconds_done, infer.seconds_total) == (20 / 4 + 9, 20 + 9)
    assert (found.finished, found.failed) == (1, 1)  # a table alone is no finished video
    assert found.current == "infer"
    note(tmp_path, "encode", "2-of-2", 100, 100, 2, 0)
    found = reader.read()
    assert found is not None
    assert (found.current, found.finished) == ("encode", 3)


def test_notes_of_earlier_runs_do_not_count(tmp_path: Path):
    planned(tmp_path)
    note(tmp_path, "infer", "1-of-2", 50, 200)
    reader = OverviewReader(tmp_path, time.time() + 60)
    assert reader.read() is None
    path = tmp_path / "work/progress/infer/1-of-2.json"
    later = time.time() + 120
    os.utime(path, (later, later))
    found = reader.read()
    assert found is not None
    assert found.stages["infer"].done == 50


def test_a_note_that_cannot_be_read_changes_nothing(tmp_path: Path):
    planned(tmp_path)
    note(tmp_path, "infer", "1-of-2", 50, 200)
    reader = OverviewReader(tmp_path, 0)
    assert reader.read() is not None
    (tmp_path / "work/progress/infer/1-of-2.json").write_text("{")
    found = reader.read()
    assert found is not None
    assert found.stages["infer"].done == 50
    assert read_progress(tmp_path / "absent") is None


def test_a_job_writes_once_a_second_and_at_its_end(tmp_path: Path):
    path = tmp_path / "note.json"
    file = ProgressFile(path)
    file.write(JobProgress(1, 9))
    file.write(JobProgress(2, 9))
    assert json.loads(path.read_text())["done"] == 1
    file.write(JobProgress(3, 9), at_once=True)
    assert json.loads(path.read_text())["done"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["note.json"]


def test_a_job_goes_on_where_no_note_can_be_written(tmp_path: Path):
    (tmp_path / "file").touch()
    file = ProgressFile(tmp_path / "file/note.json")
    file.write(JobProgress(1, 9))
    file.write(JobProgress(2, 9), at_once=True)


def simulated(infer_speed: float, encode_speed: float) -> list[tuple[float, float, float]]:
    """Of a run of 300 s of infer and 300 s of encode: time, seconds left as shown, as it is."""
    forecast, found = Forecast(), []
    ends = [300 / infer_speed, 300 / infer_speed + 300 / encode_speed]
    for now in range(0, int(ends[1])):
        infer = min(300.0, now * infer_speed)
        encode = max(0.0, (now - ends[0]) * encode_speed)
        state = Overview(
            {
                "infer": StageOverview(int(infer), 300, infer, 300.0, 2, True),
                "encode": StageOverview(int(encode), 300, encode, 300.0, 2, encode > 0),
            }
        )
        forecast.update(now, state)
        left = forecast.seconds_left(now, state)
        if left is not None:
            assert left[1] is None
            found.append((now, left[0], ends[1] - now))
    return found


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_time_left_is_right_where_predictions_are_alike(speed: float):
    found = simulated(speed, speed)
    assert found[0][0] < 10
    compared = [each for each in found if 10 < each[0] < 600 / speed - 10]
    assert len(compared) > 100
    for now, shown, left in compared:
        assert shown == pytest.approx(left, rel=0.1), now


def test_time_left_follows_a_stage_that_is_slower_than_predicted():
    compared = [each for each in simulated(1.0, 0.5) if 300 + 60 < each[0] < 880]
    assert len(compared) > 100
    for now, shown, left in compared:
        assert left / 1.5 < shown < left * 1.5, now


@pytest.mark.parametrize("guessed", ["infer", "encode"])
def test_time_left_ends_where_a_stage_cannot_be_predicted(guessed: Stage):
    """Unless both stages were measured, the speed of the first says nothing of the second."""
    stages = {
        "infer": StageOverview(100, 300, 100.0, 300.0, 2, True, guessed != "infer"),
        "encode": StageOverview(0, 300, 0.0, 9.0, 2, False, guessed != "encode"),
    }
    forecast, before = Forecast(), StageOverview(1, 300, 1.0, 300.0, 2, True)
    forecast.update(0, Overview({"infer": before}))
    forecast.update(99, Overview(stages))
    assert forecast.seconds_left(99, Overview(stages)) == (pytest.approx(200), "infer")
    assert "about 3 min left of infer;" in describe(Overview(stages), forecast, 99)
    stages["encode"].has_begun = True
    assert forecast.seconds_left(99, Overview(stages)) is None  # its speed is not known yet
    stages["encode"] = StageOverview(1, 300, 1.0, 9.0, 2, True, False)
    forecast.update(100, Overview(stages))
    found = forecast.seconds_left(100, Overview(stages))
    assert found is not None
    assert found[1] is None


def test_a_run_that_continues_an_earlier_one_counts_its_products(tmp_path: Path):
    """The plan is an old one; the job that runs again has 30 frames to do."""
    planned(tmp_path)
    for stage in ("infer", "encode"):
        (tmp_path / "work" / stage).mkdir()
        for shard in ("1-of-2", "2-of-2"):
            (tmp_path / f"work/{stage}/{shard}.json").touch()
    later = time.time() + 60
    names = ["predictions/a.parquet", "predictions/b.parquet", "predictions/c.parquet"]
    names += ["videos/a.mkv", "videos/b.mkv", "summary.tsv"]
    reader = OverviewReader(tmp_path, later, "results.next", names)
    assert reader.read() is None
    note(tmp_path, "infer", "1-of-2", 10, 30)
    os.utime(tmp_path / "work/progress/infer/1-of-2.json", (later + 1, later + 1))
    found = reader.read()
    assert found is not None
    assert (found.finished, found.finished_before, found.where) == (2, 2, "results.next")
    infer = found.stages["infer"]
    assert (infer.done, infer.total) == (10, 30)
    assert (infer.seconds_done, infer.seconds_total) == (1.0, 3.0)
    assert found.stages["encode"].total == 0
    assert describe_start(found) == (
        "4 videos: 2 finished before, 2 to do; 1 more are unreadable. Finished videos appear in "
        "results.next/"
    )


class Terminal(io.StringIO):
    """Text that is written to a terminal."""

    def isatty(self) -> bool:
        return True


def screen(text: str) -> list[str]:
    """What a terminal shows of a text with carriage returns and cleared lines."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for piece in re.split(r"(\r\x1b\[2K)", line):
            shown = "" if piece == "\r\x1b[2K" else shown + piece
        lines.append(shown)
    return lines


def test_the_line_makes_room_for_lines_of_the_log(tmp_path: Path):
    planned(tmp_path)
    note(tmp_path, "infer", "1-of-2", 50, 200)
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    logger = logging.Logger("snakemake of this test")
    logger.addHandler(handler)
    line = ProgressLine(OverviewReader(tmp_path, 0), terminal, logger.handlers)
    line.start()
    deadline = time.monotonic() + 20
    while "50 of 300 frames" not in terminal.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    logger.warning("Finished jobid: 3")
    while not terminal.getvalue().endswith("50 of 300 frames") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert screen(terminal.getvalue())[-1].startswith("pvio: 1 of 4 videos finished; infer 50")
    line.stop()
    assert screen(terminal.getvalue()) == [
        "pvio: 4 videos: 1 finished before, 3 to do; 1 more are unreadable (300 frames). "
        "Finished videos appear in results/",
        "Finished jobid: 3",
        "",
    ]


def test_a_run_that_stops_says_what_is_there(tmp_path: Path):
    planned(tmp_path)
    note(tmp_path, "encode", "1-of-2", 200, 200, 2)
    log = io.StringIO()
    line = ProgressLine(OverviewReader(tmp_path, 0), log)
    line.start()
    deadline = time.monotonic() + 20
    while not log.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    note(tmp_path, "encode", "1-of-2", 200, 200, 3)  # since the line was last renewed
    line.stop(is_complete=False)
    first, last, end = log.getvalue().split("\n")
    assert "3 to do" in first
    assert last.startswith("pvio: 4 of 4 videos are finished, in results/.")
    assert end == ""
    assert "\r" not in log.getvalue()


def test_the_line_names_rate_time_and_failures():
    forecast = Forecast()
    for now in (1, 11):
        infer = StageOverview(now * 100, 4000, now * 1.0, 40.0, 2, True)
        state = Overview({"infer": infer}, videos=40, finished=12, failed=1)
        forecast.update(now, state)
    assert describe(state, forecast, 11) == (
        "12 of 40 videos finished, 1 failed, about 29 s left; infer 1,100 of 4,000 frames, "
        "100 frames/s"
    )


def test_the_end_counts_videos_by_status():
    rows = [{"status": status} for status in ("ok", "failed", "ok")]
    assert describe_end(rows) == "3 videos: 1 failed, 2 ok. See results/report.html"
