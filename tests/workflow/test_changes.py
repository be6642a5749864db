"""What a change of settings or of the collection makes run again, and what it leaves alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from projects import Project, make_clip

import pvio
from pvio.cache.entries import Cache
from pvio.cli.clean import describe_unused
from pvio.config.settings import parse_settings
from pvio.predictions.parquet import deserialize, serialize

NO_VIDEO = {"video": "none"}
MODEL = {"entry": "brightness.py:Brightness"}


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    """Two clips, one of them long enough for three segments."""
    project = new_project()
    make_clip(project.folder / "clips/long.mp4", frames=60, options="-g 10")
    make_clip(project.folder / "clips/short.mp4", frames=12)
    return project


def settings(**more: object) -> dict[str, object]:
    return {"videos": ["clips"], "segment_frames": 20, "model": MODEL, "output": NO_VIDEO, **more}


def data(project: Project) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in project.folder.glob("results/predictions/*.parquet")}


def test_changes_cost_only_what_they_touch(project: Project) -> None:
    project.run(**settings())
    assert project.n_computed("infer") == 4
    before = data(project)

    # Other shards: nothing is computed, the results stay the same bytes.
    project.stages(**settings(shards=3))
    assert project.n_computed("infer") == 0
    assert data(project) == before

    # A new video costs that video.
    make_clip(project.folder / "clips/new.mp4", frames=15)
    project.run(**settings())
    assert project.n_computed("infer") == 1
    assert {name: data(project)[name] for name in before} == before
    assert project.summary()["new"]["frames"] == "15"

    # A file that is touched but the same costs nothing; a removed video leaves the results.
    os.utime(project.folder / "clips/short.mp4", (1_700_000_000, 1_700_000_000))
    (project.folder / "clips/new.mp4").unlink()
    project.stages(**settings())
    assert project.n_computed("infer") == 0
    assert sorted(data(project)) == ["long.parquet", "short.parquet"]

    # Other arguments of the model: all of it.
    once = pvio.read_predictions(project.folder / "results/predictions/short.parquet")
    other = settings(model={**MODEL, "args": {"factor": 2.0}})
    assert "Infer shard" in project.run("--dry-run", **other)
    project.stages(**other)
    assert project.n_computed("infer") == 4
    doubled = pvio.read_predictions(project.folder / "results/predictions/short.parquet")
    assert (doubled["brightness"] == 2 * once["brightness"]).all()


def test_output_options_encode_again_without_the_model(project: Project) -> None:
    output = {"video": "overlay", "preset": "ultrafast"}
    project.run(**settings(output={**output, "crf": 30}))
    small = (project.folder / "results/videos/long.mp4").stat().st_size
    finer = settings(output={**output, "crf": 10})
    assert "Encode shard" in project.run("--dry-run", **finer)
    project.stages(**finer)
    assert project.n_computed("infer") == 0
    assert project.n_computed("encode") == 4
    assert (project.folder / "results/videos/long.mp4").stat().st_size > small
    with contextlib.chdir(project.folder):
        text = describe_unused(parse_settings(finer))
    # The notes of four segments, and two videos.
    assert "earlier settings left 6 entries (" in text
    assert "`pvio clean --unused` removes them" in text


def test_rows_that_changed_are_drawn_again(project: Project) -> None:
    changed = settings(output={"video": "overlay", "preset": "ultrafast"})
    project.stages(**changed)
    before = (project.folder / "results/videos/short.mp4").read_bytes()
    # As if a longer timeout gave other rows, under the same key.
    cache = Cache(project.folder / ".pvio")
    for path in cache.root.glob("predictions/*/*"):
        payload, fields = cache.read("predictions", path.name)
        table = deserialize(payload)
        if table.num_rows == 12:
            old = table["brightness"]
            place = table.column_names.index("brightness")
            brighter = pc.add(old, pa.scalar(100, old.type))
            table = table.set_column(place, table.schema.field(place), brighter)
            cache.write("predictions", path.name, serialize(table), fields)
    project.stages(**changed)
    assert project.n_computed("infer") == 0
    assert project.n_computed("encode") == 1
    assert (project.folder / "results/videos/short.mp4").read_bytes() != before
    found = pvio.read_predictions(project.folder / "results/predictions/short.parquet")
    assert found["brightness"].min() >= 100


def test_costs_are_predicted_for_the_model_and_a_plan_in_use_stays(project: Project) -> None:
    project.run(**settings())
    rows = json.loads((project.folder / ".pvio/costs.json").read_text())
    assert {row["stage"] for row in rows} == {"infer"}
    for row in rows:
        row["frame"] *= 1000
    (project.folder / ".pvio/costs.json").write_text(json.dumps(rows))
    assert "Nothing to be done" in project.run(**settings())

    def predicted() -> float:
        plan = json.loads((project.folder / "work/plan.json").read_text())
        return sum(segment["infer_seconds"] for segment in plan["segments"])

    before = predicted()
    project.run("--until", "plan", **settings(model={**MODEL, "batch_size": 8}))
    assert predicted() > 10 * before


NO_INDEXING = """
import pvio.media.index.build

def build_index(source):
    raise pvio.errors.UnreadableVideo(source.path, "it was read again")

pvio.media.index.build.build_index = build_index
"""


def test_metadata_of_known_videos_is_not_read_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run("--until", "plan", **settings())
    (project.folder / "path").mkdir()
    (project.folder / "path/sitecustomize.py").write_text(NO_INDEXING)
    monkeypatch.setenv("PYTHONPATH", str(project.folder / "path"))
    # Linking a file changes its status, but not its content.
    os.link(project.folder / "clips/short.mp4", project.folder / "another name")
    project.run("--until", "plan", "--forcerun", "probe", **settings())
    assert "0 unreadable" in (project.folder / "logs/probe.log").read_text()
    make_clip(project.folder / "clips/new.mp4")
    project.run("--until", "plan", **settings())
    assert "it was read again" in (project.folder / "logs/probe.log").read_text()


def test_another_video_of_the_same_size_and_time_is_noticed(project: Project) -> None:
    clip = project.folder / "clips/short.mp4"
    after, fields = {}, clip.stat()
    make_clip(clip, frames=12, options="-vf negate")
    other = clip.read_bytes()
    assert len(other) != fields.st_size
    # Bytes after the end of an MP4 file do not matter, so that the sizes can be made equal.
    size = max(len(other), fields.st_size)
    make_clip(clip, frames=12)
    for content in (clip.read_bytes(), other):
        clip.write_bytes(content + bytes(size - len(content)))
        os.utime(clip, ns=(fields.st_atime_ns, fields.st_mtime_ns))
        if after:
            assert "Indexing the frames" in project.run("--dry-run", **settings())
            project.stages(**settings())
        else:
            project.run(**settings())
        before, after = after, data(project)
    assert before["long.parquet"] == after["long.parquet"]
    assert before["short.parquet"] != after["short.parquet"]


def test_predictions_are_the_same_bytes_for_any_number_of_shards(project: Project) -> None:
    results = []
    for shards in (1, 2, 7):
        project.stages(**settings(shards=shards, cache=f"cache-{shards}"))
        assert project.n_computed("infer") == 4
        results.append(data(project))
    assert results[0] == results[1] == results[2]
