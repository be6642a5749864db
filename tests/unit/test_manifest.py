"""Tables between stages, also those of another version of pvio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pvio.cache.atomic import write_json
from pvio.cli.status.compare import _LastRun
from pvio.config.settings import parse_settings
from pvio.errors import PvioError
from pvio.pipeline.planning.manifest import (
    Plan,
    PlannedSegment,
    ProbedVideo,
    Receipt,
    SegmentReceipt,
    from_json,
    read_plan,
    read_probe,
    read_receipt,
    read_shard_plan,
)
from pvio.pipeline.planning.registry import forget_runs, register, registered_runs
from pvio.pipeline.planning.resources import (
    JobResources,
    planned_shards,
    read_job_resources,
    write_shard_plans,
)
from pvio.pipeline.results.product_table import read_products

PLAN = Plan([ProbedVideo("a", "/a.mp4")], [PlannedSegment(0, 0, 9, 1.0, 2.0)], [[0]], [[0]])
RECEIPT = Receipt("infer", "1-of-1", 1.0, [SegmentReceipt(0, {"predictions": "x"}, True)])
TABLES: dict[str, tuple[Any, Callable[[Path], Any], str]] = {
    "probe": (PLAN.videos, read_probe, "path"),
    "plan": (PLAN, read_plan, "start"),
    "part": (
        next(PLAN.shard_plans("infer")),
        lambda p: read_shard_plan(p, "infer", "1-of-1"),
        "stop",
    ),
    "receipt": (RECEIPT, read_receipt, "digests"),
}


def changed(data: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    """JSON in which every object of fields was changed."""
    if isinstance(data, list):
        return [changed(each, change) for each in data]
    if not isinstance(data, dict):
        return data
    data = {key: changed(value, change) for key, value in data.items()}
    if data and not all(key.isdigit() for key in data):  # no table by number
        change(data)
    return data


@pytest.mark.parametrize("name", TABLES)
def test_fields_that_another_version_added_are_ignored(tmp_path: Path, name: str):
    table, read, _ = TABLES[name]
    write_json(tmp_path / "table.json", table)
    data = json.loads((tmp_path / "table.json").read_text())
    (tmp_path / "table.json").write_text(json.dumps(changed(data, lambda row: row.update(new=1))))
    if name == "receipt":  # digests by kind are a table, not fields
        assert read(tmp_path / "table.json").segments[0].segment == 0
    else:
        assert read(tmp_path / "table.json") == table


@pytest.mark.parametrize("name", TABLES)
def test_fields_that_it_did_not_write_are_an_error_that_says_so(tmp_path: Path, name: str):
    table, read, field = TABLES[name]
    write_json(tmp_path / "table.json", table)
    data = json.loads((tmp_path / "table.json").read_text())
    text = json.dumps(changed(data, lambda row: row.pop(field, None) and None))
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(PvioError, match=rf"another version of pvio .*lacks {field}"):
        read(tmp_path / "table.json")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("text", ["[]", "{}", "3", "null", "[3]", '{"videos": 1, "segments": [2]}'])
def test_something_else_is_an_error_that_says_so(tmp_path: Path, name: str, text: str):
    (tmp_path / "table.json").write_text(text)
    if (name, text) == ("probe", "[]"):
        assert read_probe(tmp_path / "table.json") == []
        return
    with pytest.raises(PvioError):
        TABLES[name][1](tmp_path / "table.json")


def test_fields_with_a_default_may_be_absent():
    assert from_json(ProbedVideo, {"name": "a", "path": "/a.mp4", "new": 1}) == PLAN.videos[0]


def test_loads_of_another_version_are_no_plan(tmp_path: Path):
    write_shard_plans(tmp_path, PLAN, {"infer": [JobResources(1.0, 100)]})
    file = tmp_path / "resources.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps({"infer": [{**good["infer"][0], "new": 1}], "link": [{"x": 1}]}))
    assert read_job_resources(str(tmp_path), "infer", "1-of-1") == JobResources(1.0, 100)
    assert planned_shards(str(tmp_path)) == 1
    for text in ('{"infer": [{"seconds": 1}]}', "[]", "{", "{}", '{"infer": 3}'):
        file.write_text(text + " " * len(text))
        assert planned_shards(str(tmp_path)) == 0
        with pytest.raises(FileNotFoundError):
            read_job_resources(str(tmp_path), "infer", "1-of-1")


@pytest.mark.parametrize("added", [True, False])
def test_runs_of_another_version_are_still_known(tmp_path: Path, added: bool):
    settings = parse_settings({"cache": str(tmp_path)})
    write_json(tmp_path / "plan.json", PLAN)
    register(tmp_path / "plan.json", tmp_path / "plan.json", settings, "model")
    (file,) = (tmp_path / "runs").glob("*.json")
    data = json.loads(file.read_text())
    if added:
        data["run"] |= {"new": 1, "settings": '{"gone": 1, "model": {"old": 2}}'}
        data["videos"][0]["new"] = 1
        file.write_text(json.dumps(data))
        (run,) = registered_runs(tmp_path)
        assert run.unknown == ("gone", "model.old")
        assert run.plan() == PLAN
        return
    del data["run"]["model"]
    file.write_text(json.dumps(data))
    with pytest.raises(PvioError, match="another version of pvio"):
        registered_runs(tmp_path)
    forget_runs(tmp_path, [str(Path.cwd())])
    assert registered_runs(tmp_path) == []


def test_results_of_another_version_are_compared_as_far_as_they_can_be(tmp_path: Path):
    write_json(tmp_path / "plan.json", PLAN)
    (tmp_path / ".run.json").write_text('{"settings": "{\\"gone\\": 1}", "model": "m", "new": 1}')
    last = _LastRun.read(tmp_path)
    assert last is not None
    assert last.changes(parse_settings({}), "m") == []
    for text in ('{"settings": 3, "model": "m"}', "[]", '{"model": "m"}', "3"):
        (tmp_path / ".run.json").write_text(text)
        assert _LastRun.read(tmp_path) is None
    for text in ("[]", "3", '{"a": 1}', "{"):
        (tmp_path / ".products.json").write_text(text)
        assert read_products(tmp_path) == {}


def test_fields_are_read_under_the_names_that_they_had_before():
    old = {"videos": [], "segments": [], "infer": [[1]], "encode": [[2]]}
    assert from_json(Plan, old) == Plan([], [], [[1]], [[2]])
    failed = from_json(
        SegmentReceipt,
        {"segment": 1, "digests": {}, "computed": True, "failure": "no disk", "given_up": "hung"},
    )
    assert (failed.failure_reason, failed.skipped_reason) == ("no disk", "hung")
    assert from_json(JobResources, {"seconds": 1.0, "memory": 5}) == JobResources(1.0, 5)


def test_resources_are_read_from_the_file_of_an_earlier_version(tmp_path: Path):
    write_json(tmp_path / "loads.json", {"infer": [{"seconds": 2.0, "memory": 7}]})
    assert read_job_resources(str(tmp_path), "infer", "1-of-1") == JobResources(2.0, 7)
    write_json(tmp_path / "resources.json", {"infer": [JobResources(3.0, 8)]})
    assert read_job_resources(str(tmp_path), "infer", "1-of-1") == JobResources(3.0, 8)


def test_the_cache_notes_a_plan_as_it_was_written(tmp_path: Path):
    settings = parse_settings({"cache": str(tmp_path / "cache"), "segment_frames": 7})
    write_json(tmp_path / "plan.tmp", PLAN)
    register(tmp_path / "plan.tmp", tmp_path / "plan.json", settings, "model")
    register(tmp_path / "plan.tmp", tmp_path / "plan.json", settings, "model")
    (run,) = registered_runs(settings.cache)  # the second one replaces the first one
    assert run.plan() == PLAN
    assert (run.settings.segment_frames, run.model, run.folder) == (7, "model", str(Path.cwd()))
    assert (tmp_path / "plan.tmp").read_text()[1:] in run.plan_path.read_text()
    write_json(tmp_path / "probe.json", PLAN.videos)
    with pytest.raises(PvioError, match="is not a plan"):
        register(tmp_path / "probe.json", tmp_path / "plan.json", settings, "model")
    assert registered_runs(settings.cache)[0].plan() == PLAN
