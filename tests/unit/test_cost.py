"""Costs are predicted by what was measured, or by the nearest that was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pvio.cache.entries import Cache
from pvio.config.settings import parse_settings
from pvio.models.entry import model_fingerprint
from pvio.pipeline.planning.cost import CostModel, CostSample, StageWorkload, stage_workloads
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import ProbedVideo, SegmentReceipt
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

SAMPLE = Path(__file__).parents[2] / "samples" / "dark_on_bright.mp4"
SQUARE = ProbedVideo("a", "a.mp4", codec="h264", height=384, width=384)
LARGE = ProbedVideo("b", "b.mp4", codec="hevc", height=768, width=768)
INFER = StageWorkload("infer", "one model", None)
OTHER_MODEL = StageWorkload("infer", "another model", None)
# What an entry of the cache says of a segment.
FINISHED = {"given_up": "", "patience": 120, "seconds": {"total": 1.0}}
ENCODE = StageWorkload("encode", "x264", None, True)


def by_table(work: StageWorkload, video: ProbedVideo, n_frames: int) -> float:
    return CostModel().seconds(work, video, n_frames, False)


def learned(*found: CostSample) -> CostModel:
    costs = CostModel()
    costs.update(found)
    return costs


def test_seconds_are_those_of_the_median_frame() -> None:
    costs = learned(
        CostSample(INFER, SQUARE, 100, 1.0),
        CostSample(INFER, SQUARE, 10, 5.0),
        CostSample(INFER, SQUARE, 20, 4.0),
    )
    assert costs.seconds(INFER, SQUARE, 1000, False) == pytest.approx(10.0)


def test_the_first_segment_that_a_job_has_of_a_video_is_predicted_to_prepare_the_model() -> None:
    costs = learned(
        CostSample(INFER, SQUARE, 100, 3.0, prepare=2.5),
        CostSample(INFER, SQUARE, 100, 1.0),
    )
    assert costs.seconds(INFER, SQUARE, 200, True) == pytest.approx(4.0)
    assert costs.seconds(INFER, SQUARE, 200, False) == pytest.approx(2.0)


def test_videos_of_one_segment_tell_prepare_from_frames() -> None:
    costs = learned(CostSample(INFER, SQUARE, 100, 3.0, prepare=2.0))
    assert costs.seconds(INFER, SQUARE, 200, True) == pytest.approx(4.0)


def test_another_video_is_scaled_by_the_same_work_before_other_work() -> None:
    costs = learned(
        CostSample(INFER, SQUARE, 100, 3 * by_table(INFER, SQUARE, 100)),
        CostSample(OTHER_MODEL, LARGE, 100, 50 * by_table(OTHER_MODEL, LARGE, 100)),
    )
    assert costs.seconds(INFER, LARGE, 10, False) == pytest.approx(3 * by_table(INFER, LARGE, 10))


def test_a_new_model_is_scaled_by_others_and_encoding_is_not() -> None:
    costs = learned(CostSample(INFER, SQUARE, 100, 3 * by_table(INFER, SQUARE, 100)))
    assert costs.seconds(OTHER_MODEL, SQUARE, 10, False) == pytest.approx(
        3 * by_table(INFER, SQUARE, 10)
    )
    assert costs.seconds(ENCODE, SQUARE, 10, False) == pytest.approx(by_table(ENCODE, SQUARE, 10))


def test_a_small_run_changes_little_of_what_a_large_one_found() -> None:
    costs = learned(CostSample(INFER, SQUARE, 9900, 99.0))
    costs.update([CostSample(INFER, SQUARE, 100, 2.0)])
    assert costs.seconds(INFER, SQUARE, 100, False) == pytest.approx(1.01)


def test_a_large_run_outweighs_all_that_was_before() -> None:
    costs = learned(CostSample(INFER, SQUARE, 10_000_000, 200_000.0))
    costs.update([CostSample(INFER, SQUARE, 1_000_000, 10_000.0)])
    assert costs.seconds(INFER, SQUARE, 100, False) == pytest.approx(1.0, rel=0.05)


def test_costs_are_kept_in_the_cache(tmp_path: Path) -> None:
    learned(CostSample(INFER, SQUARE, 100, 3.0, prepare=2.0)).save(str(tmp_path))
    assert CostModel.load(str(tmp_path)).seconds(INFER, SQUARE, 200, True) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1, 2]",
        "{",
        "3",
        '[{"stage": "infer"}]',
        json.dumps({"infer h264 384x384": [0.001, 0.002]}),
    ],
)
def test_costs_in_another_form_are_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "costs.json").write_text(content)
    found = CostModel.load(str(tmp_path)).seconds(INFER, SQUARE, 9, False)
    assert found == pytest.approx(by_table(INFER, SQUARE, 9))


def test_every_shard_is_predicted_to_prepare_once_for_a_video(tmp_path: Path) -> None:
    settings = parse_settings(
        {"videos": [str(SAMPLE)], "segment_frames": 100, "cache": str(tmp_path)}
    )
    videos = probe(settings)
    infer = stage_workloads(settings, model_fingerprint(settings.model))["infer"]
    learned(CostSample(infer, videos[0], 100, 3.0, prepare=2.0)).save(settings.cache)
    for n_shards, seconds in ((1, [3.0, 1.0]), (2, [3.0, 3.0])):
        plan, _ = make_plan(videos, settings, n_shards)
        assert [segment.infer_seconds for segment in plan.segments] == pytest.approx(seconds)


def test_finished_segments_do_not_weigh_when_the_rest_is_spread(tmp_path: Path) -> None:
    old, new = (tmp_path / name for name in ("old", "new"))
    for folder, n in ((old, 3), (new, 2)):
        folder.mkdir()
        for number in range(n):
            shutil.copy(SAMPLE, folder / f"{folder.name}{number}.mp4")
            with (folder / f"{folder.name}{number}.mp4").open("ab") as file:
                file.write(bytes([0, 0, 0, 9, *b"free", number + n]))  # another content
    settings = parse_settings(
        {"videos": [str(old), str(new)], "cache": str(tmp_path), "segment_frames": 1000}
    )
    videos = probe(settings)
    keys = ResultKeys(settings, model_fingerprint(settings.model))
    cache = Cache(settings.cache)
    plan, _ = make_plan(videos, settings, 2)
    for segment in plan.segments:
        video = videos[segment.video]
        if "old" in video.name:
            cache.write(*keys.predictions(video, segment), b"", FINISHED)
    spread = make_plan(videos, settings, 2)[0].infer_shards
    of_new = [sum("new" in videos[number].name for number in shard) for shard in spread]
    assert of_new == [1, 1]


def test_the_shard_with_the_most_to_do_is_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def index(video: ProbedVideo, cache: Cache, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(n_frames=video.n_frames, keyframes=np.array([0]))

    monkeypatch.setattr("pvio.pipeline.stages.plan.index_of", index)
    # LPT gives the longest to the first worker, and both others to the second one.
    videos = [replace(SQUARE, n_frames=n) for n in (1000, 600, 600)]
    plan, loads = make_plan(videos, parse_settings({"cache": str(tmp_path)}), 2)
    assert plan.infer_shards == plan.encode_shards == [[1, 2], [0]]
    for stage in ("infer", "encode"):
        longest, other = (load.seconds for load in loads[stage])
        assert longest == pytest.approx(1.2 * other, rel=0.01)


def keys(fingerprint: str = "a model", **settings: Any) -> tuple[str, str]:
    works = stage_workloads(parse_settings(settings), fingerprint)
    return works["infer"].key, works["encode"].key


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "another model"},
        {"model": {"channels": "rgb"}},
        {"model": {"size": [64, 64]}},
        {"model": {"batch_size": 1}},
        {"model": {"precision": "bfloat16"}},
        {"model": {"device": "cuda"}},
    ],
)
def test_inference_is_other_work_with_another_model_but_encoding_is_not(
    change: dict[str, Any],
) -> None:
    infer, encode = keys(**change)
    assert infer != keys()[0]
    assert encode == keys()[1]


@pytest.mark.parametrize("output", [{"crf": 30}, {"preset": "fast"}])
def test_encoding_is_other_work_with_other_output_but_inference_is_not(
    output: dict[str, Any],
) -> None:
    infer, encode = keys(output=output)
    assert infer == keys()[0]
    assert encode != keys()[1]


def test_inference_that_encodes_is_other_work_with_other_output() -> None:
    frames = {"video": "frames"}
    assert keys(output=frames)[0] != keys(output={**frames, "crf": 30})[0]


def test_the_plan_knows_which_work_was_measured(tmp_path: Path) -> None:
    settings = parse_settings({"videos": [str(SAMPLE)], "cache": str(tmp_path)})
    videos = probe(settings)

    def are_measured() -> dict[str, bool]:
        _, resources = make_plan(videos, settings, 2)
        return {stage: all(each.is_measured for each in jobs) for stage, jobs in resources.items()}

    assert are_measured() == {"infer": False, "encode": False}
    workloads = stage_workloads(settings, model_fingerprint(settings.model))
    other = workloads["infer"]._replace(key="another model")
    learned(
        CostSample(workloads["encode"], LARGE, 100, 1.0), CostSample(other, LARGE, 100, 1.0)
    ).save(str(tmp_path))
    assert are_measured() == {"infer": False, "encode": True}


def test_two_cuda_devices_do_the_same_work() -> None:
    assert keys(model={"device": "cuda:0"}) == keys(model={"device": "cuda:1"})


def test_the_cost_of_a_segment_of_an_older_version_is_its_wall_time() -> None:
    assert SegmentReceipt(0, "", False, seconds={"total": 2.0}).cost == 2.0
    assert SegmentReceipt(0, "", False, seconds={"total": 2.0, "cost": 1.5}).cost == 1.5
