"""The main job on the sample clips, with the built-in tracker."""

from __future__ import annotations

import csv
import json

import av
import numpy as np
import pytest
from projects import REPOSITORY, Project

import pvio

pytestmark = pytest.mark.xdist_group("main job")  # they share a run

SAMPLES = ("dark_on_bright", "bright_on_dark", "variable_rate")


def truth(name: str) -> dict[str, np.ndarray]:
    with open(REPOSITORY / f"samples/{name}.truth.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def frame_times(path: object) -> list[object]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.size)


def test_all_products_are_there(sample_run: tuple[Project, str]) -> None:
    results = sample_run[0].folder / "results"
    for name in SAMPLES:
        assert (results / f"predictions/{name}.parquet").is_file()
        assert (results / f"videos/{name}.mp4").is_file()
    for name in ("summary.tsv", "plan.json", "report.html"):
        assert (results / name).is_file()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_animal_is_found_in_every_frame_within_a_pixel(
    sample_run: tuple[Project, str], name: str
) -> None:
    expected = truth(name)
    found = pvio.read_predictions(sample_run[0].folder / f"results/predictions/{name}.parquet")
    assert len(found["frame"]) == len(expected["frame"])
    np.testing.assert_allclose(found["time"], expected["time"], atol=1e-5)
    assert not np.isnan(found["x"]).any()
    x = np.stack([expected["x1"], expected["x2"]], axis=1)
    y = np.stack([expected["y1"], expected["y2"]], axis=1)
    # The tracker has no identities: of both assignments the better one counts, frame by frame.
    straight = np.hypot(found["x"] - x, found["y"] - y)
    crossed = np.hypot(found["x"] - x[:, ::-1], found["y"] - y[:, ::-1])
    better = np.where((straight.sum(axis=1) <= crossed.sum(axis=1))[:, None], straight, crossed)
    assert np.median(better) < 1.0
    # An animal's half width: farther away it would be another animal, or none.
    assert better.max() < 6.0


@pytest.mark.parametrize("name", SAMPLES)
def test_the_video_has_the_frames_and_times_of_its_source(
    sample_run: tuple[Project, str], name: str
) -> None:
    source = frame_times(REPOSITORY / f"samples/{name}.mp4")
    assert frame_times(sample_run[0].folder / f"results/videos/{name}.mp4") == source


@pytest.mark.parametrize("name", SAMPLES)
def test_the_video_lasts_as_long_as_its_source(sample_run: tuple[Project, str], name: str) -> None:
    durations = []
    for path in (REPOSITORY / "samples", sample_run[0].folder / "results/videos"):
        with av.open(str(path / f"{name}.mp4")) as container:
            stream = container.streams.video[0]
            assert stream.duration is not None
            durations.append(float(stream.duration * stream.time_base))
    # The last frame's duration is not known for variable rates; it is taken from the mean rate.
    assert durations[0] == pytest.approx(durations[1], abs=0.1)


def test_the_report_shows_every_video_and_shard(sample_run: tuple[Project, str]) -> None:
    page = (sample_run[0].folder / "results/report.html").read_text()
    for text in (*SAMPLES, "1-of-2", "2-of-2", "frames/s"):
        assert text in page
    assert "http" not in page  # nothing is fetched from elsewhere


def test_the_plan_covers_every_frame_once(sample_run: tuple[Project, str]) -> None:
    plan = json.loads((sample_run[0].folder / "results/plan.json").read_text())
    planned = [
        (plan["videos"][segment["video"]]["name"], frame)
        for segment in plan["segments"]
        for frame in range(segment["start"], segment["stop"])
    ]
    expected = [(name, frame) for name in SAMPLES for frame in range(len(truth(name)["frame"]))]
    assert sorted(planned) == sorted(expected)
    for stage in ("infer", "encode"):
        numbers = [number for shard in plan[f"{stage}_shards"] for number in shard]
        assert sorted(numbers) == list(range(len(plan["segments"])))


def test_jobs_grow_with_shards_and_not_with_videos(sample_run: tuple[Project, str]) -> None:
    text = sample_run[1]
    counts = {
        line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) == 2
    }
    assert counts["infer"] == "2"
    assert counts["encode"] == "2"
    assert counts["assemble"] == "1"


def test_a_second_run_has_nothing_to_do(sample_run: tuple[Project, str]) -> None:
    assert "Nothing to be done" in sample_run[0].run()


def test_a_lost_result_folder_is_assembled_from_the_cache(sample_run: tuple[Project, str]) -> None:
    project = sample_run[0]
    before = {p.name: p.read_bytes() for p in project.folder.glob("results/predictions/*")}
    (project.folder / "results").rename(project.folder / "old results")
    text = project.run()
    assert "rule infer" not in text
    after = {p.name: p.read_bytes() for p in project.folder.glob("results/predictions/*")}
    assert after == before
