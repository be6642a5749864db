"""What jobs are given of a plan, and what they ask a scheduler for."""

from __future__ import annotations

import errno
import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pvio.cache.atomic import write_json
from pvio.config.settings import parse_settings
from pvio.errors import PvioError
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo, read_shard_plan
from pvio.pipeline.planning.resources import (
    JobResources,
    job_resources,
    planned_shards,
    read_job_resources,
    shard_count_warnings,
    write_shard_plans,
)

SIDES = (480, 2160)


def plan() -> Plan:
    """Two videos of three segments each; the first is small, the second one large."""
    videos = [ProbedVideo(str(side), f"{side}.mp4", height=side, width=side) for side in SIDES]
    segments = [
        PlannedSegment(video, 100 * k, 100 * (k + 1), infer_seconds=1.0, encode_seconds=2.0)
        for video, k in itertools.product(range(2), range(3))
    ]
    return Plan(videos, segments, [[0, 1, 2], [3, 4, 5]], [[0, 3], [1, 2, 4, 5]])


def loads(*seconds: float) -> list[JobResources]:
    return [JobResources(each, 1000, is_measured=True) for each in seconds]


def test_parts_hold_what_their_jobs_need(tmp_path: Path):
    whole = plan()
    write_shard_plans(tmp_path, whole, {"infer": loads(3, 3), "encode": loads(8, 4)})
    first = read_shard_plan(tmp_path / "infer/1-of-2.json", "infer", "1-of-2")
    assert first.segment_numbers == [0, 1, 2]
    assert first.videos == {0: whole.videos[0]}
    assert first.segments == {k: whole.segments[k] for k in (0, 1, 2)}
    # Drawings of segment 3 may show what was before it, and lost predictions be computed.
    encode = read_shard_plan(tmp_path / "encode/1-of-2.json", "encode", "1-of-2")
    assert encode.segment_numbers == [0, 3]
    assert encode.segments == dict(enumerate(whole.segments))


def test_the_whole_plan_will_do_as_well(tmp_path: Path):
    whole = plan()
    write_json(tmp_path / "plan.json", whole)
    write_shard_plans(tmp_path, whole, {"infer": loads(3, 3)})
    for k in (1, 2):
        shard = f"{k}-of-2"
        part = read_shard_plan(tmp_path / f"infer/{shard}.json", "infer", shard)
        assert read_shard_plan(tmp_path / "plan.json", "infer", shard) == part


@pytest.mark.parametrize("shard", ["3-of-2", "1-of-3", "0-of-2", "one"])
def test_a_shard_that_the_plan_lacks_is_an_error(tmp_path: Path, shard: str):
    write_json(tmp_path / "plan.json", plan())
    with pytest.raises(PvioError, match=r"the plan has 2 shard\(s\)"):
        read_shard_plan(tmp_path / "plan.json", "infer", shard)


def test_the_part_of_another_job_is_an_error(tmp_path: Path):
    write_shard_plans(tmp_path, plan(), {"infer": loads(3, 3)})
    with pytest.raises(PvioError, match="is the plan of infer 2-of-2, not 1-of-2"):
        read_shard_plan(tmp_path / "infer/2-of-2.json", "infer", "1-of-2")


def test_the_load_of_a_job_is_unknown_before_there_is_a_plan(tmp_path: Path):
    folder = str(tmp_path / "shards")
    with pytest.raises(FileNotFoundError) as missing:
        read_job_resources(folder, "infer", "1-of-2")
    # Snakemake takes this for "not yet" when it is about an input of the rule.
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, folder)
    assert planned_shards(folder) == 0
    write_shard_plans(Path(folder), plan(), {"infer": loads(5, 3)})
    assert read_job_resources(folder, "infer", "2-of-2").seconds == 3
    assert planned_shards(folder) == 2
    with pytest.raises(FileNotFoundError):
        read_job_resources(folder, "infer", "1-of-3")
    with pytest.raises(FileNotFoundError):
        read_job_resources(folder, "encode", "1-of-2")


def test_later_attempts_get_more():
    load = JobResources(3600, 2000)
    assert [load.runtime_minutes(n) for n in (1, 2, 3)] == [195, 390, 585]
    assert [load.mem_mb(n) for n in (1, 2, 3)] == [2000, 4000, 6000]
    assert JobResources(0, 2000).runtime_minutes() >= 10
    # What exceeds the limits of most partitions is refused. A job continues where it was, anyway.
    assert [JobResources(7 * 3600, 2000).runtime_minutes(n) for n in (1, 2)] == [1275, 1440]
    assert [JobResources(9 * 3600, 2000).runtime_minutes(n) for n in (1, 2)] == [1635, 1635]


def test_memory_grows_with_frames_and_batches():
    def memory(stage: str, **model: object) -> list[int]:
        settings = parse_settings({"model": model})
        planned = plan()
        frames = [segment.stop - segment.start for segment in planned.segments]
        found = job_resources(stage, (3, 3), frames, planned, settings)
        assert [load.frames for load in found] == [300, 300]
        return [load.memory_mib for load in found]

    small, large = memory("infer")
    assert small < large
    assert memory("infer", batch_size=256)[0] > small
    assert memory("infer", channels="rgb")[1] > large
    # What the model gets does not grow with the video then.
    assert memory("infer", size=[64, 64])[1] < large
    encode = job_resources("encode", (8, 4), [100] * 6, plan(), parse_settings({}))
    assert encode[0].memory_mib == encode[1].memory_mib  # both have frames of the large video


def test_publishing_has_its_memory_and_its_time():
    settings, planned = parse_settings({}), plan()
    frames = [segment.stop - segment.start for segment in planned.segments]
    long = replace(
        planned, videos=[replace(video, n_frames=10_000_000) for video in planned.videos]
    )
    short, longer = (
        job_resources("infer", (3, 3), frames, each, settings) for each in (planned, long)
    )
    assert longer[0].memory_mib - short[0].memory_mib > 10_000_000 * 300 / 2**20 - 10
    assert longer[0].runtime_minutes() - short[0].runtime_minutes() >= 60
    assert longer[0].seconds == short[0].seconds


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (
            (60, 50),
            "the 2 infer jobs .* at most 60 s each, .*; consider shards: 1",
        ),
        ((3600, 3000), None),
        ((299, 299), "consider shards: 1"),
        (
            (2,) * 5000,
            "the 5000 infer jobs .* at most 2 s .*; shards: 3 gives jobs of about an hour",
        ),
        ((301, 100), None),
        (
            (60_000, 60_000),
            "the 2 infer jobs .* up to 16.7 h each: .*; shards: 33 gives",
        ),
        ((28_700, 20_000), None),
        ((200,), None),  # one job is as few as can be
        ((20, 20), None),
        ((0.002, 0.001), None),  # all is done
    ],
)
def test_a_number_of_shards_that_is_out_of_proportion_is_reported_once(
    tmp_path: Path, seconds: tuple[float, ...], message: str | None
):
    write_json(tmp_path / "resources.json", {"infer": loads(*seconds)})
    texts = shard_count_warnings(str(tmp_path), since=0)
    assert len(texts) == (message is not None)
    for text in texts:
        assert re.search(str(message), text)
    assert shard_count_warnings(str(tmp_path), since=0) == []


def test_a_model_that_was_never_measured_gives_no_advice(tmp_path: Path):
    guessed = [replace(each, is_measured=False) for each in loads(60, 50)]
    write_json(tmp_path / "resources.json", {"infer": guessed})
    assert shard_count_warnings(str(tmp_path), since=0) == []


def test_advice_is_about_the_plan_of_this_run(tmp_path: Path):
    write_json(tmp_path / "resources.json", {"infer": loads(60, 50)})
    os.utime(tmp_path / "resources.json", (1000, 1000))
    assert shard_count_warnings(str(tmp_path), since=2000) == []
    assert shard_count_warnings(str(tmp_path), since=500) != []
