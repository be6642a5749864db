"""Shard jobs: segments that fail, and when the job ends."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import REPOSITORY

from pvio.cache.entries import Cache
from pvio.config.settings import parse_settings
from pvio.errors import FailedSegments, JobError
from pvio.pipeline.jobs import shard
from pvio.pipeline.jobs.shard import run_shard
from pvio.pipeline.jobs.staging import Stager
from pvio.pipeline.jobs.supervisor import Outcome
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import PlannedSegment, ProbedVideo, ShardPlan
from pvio.pipeline.stages.infer import infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

SAMPLE = REPOSITORY / "samples/dark_on_bright.mp4"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_model_that_cannot_be_loaded_ends_the_job(tmp_path: Path):
    settings = parse_settings(
        {
            "videos": [str(SAMPLE)],
            "segment_frames": 100,
            "cache": str(tmp_path),
            "model": {"device": "cuda"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    with pytest.raises(JobError) as failed:
        infer(next(plan.shard_plans("infer")), settings)
    assert str(failed.value).count("model.device: cuda is not there") == 1


# After one error of a device, every call of the process fails, as with CUDA.
BREAKING = """
class Model:
    is_broken = False
    def prepare(self, video):
        self.is_bad = "bad" in video.path
    def __call__(self, frames):
        Model.is_broken |= self.is_bad
        if Model.is_broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return frames.mean((1, 2, 3))
"""


def test_an_error_that_breaks_cuda_for_the_process_costs_one_video(tmp_path: Path):
    (tmp_path / "breaking.py").write_text(BREAKING)
    bad, good = tmp_path / "bad.mp4", tmp_path / "good.mp4"
    shutil.copy(SAMPLE, bad)
    shutil.copy(REPOSITORY / "samples/bright_on_dark.mp4", good)
    settings = parse_settings(
        {
            "videos": [str(bad), str(good)],
            "segment_frames": 50,
            "cache": str(tmp_path / "cache"),
            "model": {"entry": f"{tmp_path}/breaking.py:Model", "device": "cpu"},
            "output": {"video": "none"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    receipt = infer(next(plan.shard_plans("infer")), settings)
    failures = {
        plan.videos[plan.segments[done.segment].video].name: done.failure_reason
        for done in receipt.segments
    }
    assert "device-side assert" in failures["bad"]
    assert failures["good"] == ""


# The metadata of an entry.
FIELDS: dict[str, Any] = {"digest": "d", "seconds": {"total": 0.1}, "skipped_reason": ""}


@dataclass
class Failing:
    """In place of `SegmentTask`: segments of some videos fail, those of others are done."""

    folder: Path
    segments: dict[int, PlannedSegment]
    failing: frozenset[int]
    temporaries: Path = Path()
    reason: str = "the model failed on frames {start} to {stop}: NameError: no such name"

    def __call__(self, task: int, careful: bool, progress: Callable[[int], None]) -> Outcome:
        segment = self.segments[task]
        with (self.folder / "log").open("a") as file:
            file.write(f"{segment.video}\n")
        if segment.video in self.failing:
            reason = self.reason.format(start=segment.start, stop=segment.stop, video=segment.video)
            return Outcome(task, "failed", reason)
        return Outcome(task, "done", [FIELDS])

    def note(self, outcome: Outcome) -> None:
        pass


def in_this_process(
    work: Failing, tasks: list[int], progress: Any, temporaries: Path, group_of: Any
) -> Iterator[Outcome]:
    """In place of `run_supervised`."""
    for task in list(tasks):
        yield work(task, False, progress)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run_shard` with a `Failing`: the numbers of the videos that were tried, in order."""

    def work(n_videos: int, failing: Any, n_segments: int = 1, **more: Any) -> Any:
        clip = tmp_path / "clip.mp4"
        clip.touch()
        videos = {n: ProbedVideo(f"v{n}", str(clip)) for n in range(n_videos)}
        segments = dict(
            enumerate(
                PlannedSegment(video, 10 * k, 10 * k + 10, 1.0, 1.0)
                for video in range(n_videos)
                for k in range(n_segments)
            )
        )
        part = ShardPlan("infer", "1-of-1", [*segments], videos, segments)
        doing = Failing(tmp_path, segments, frozenset(failing), **more)
        monkeypatch.setattr(shard, "SegmentTask", lambda *_: doing)
        monkeypatch.setattr(shard, "run_supervised", in_this_process)
        (tmp_path / "log").write_text("")
        settings = parse_settings({"output": {"video": "none"}})
        completion = Completion(ResultKeys(settings, "a model"), Cache(tmp_path), 9)
        receipt = run_shard(part, completion, settings, lambda _: None)
        return receipt.segments

    return work


def tried(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]


def test_a_video_that_fails_is_noted_and_the_others_continue(work: Any, tmp_path: Path):
    receipts = work(6, {2, 3})
    assert [receipt.failed for receipt in receipts] == [False, False, True, True, False, False]
    assert "frames 0 to 10" in receipts[2].failure_reason
    assert all(receipt.digests == {} for receipt in receipts[2:4])
    assert tried(tmp_path) == [*range(6)]


def test_a_job_ends_when_all_videos_fail_alike(work: Any, tmp_path: Path):
    with pytest.raises(FailedSegments, match=r"first 6 videos fail alike.*NameError"):
        work(100, range(100), 3)
    assert len(set(tried(tmp_path))) == 6  # three, and three others
    assert max(tried(tmp_path)) > 70


def test_videos_side_by_side_that_fail_alike_cost_themselves_alone(work: Any, tmp_path: Path):
    receipts = work(100, range(40))
    assert [receipt.failed for receipt in receipts] == [True] * 40 + [False] * 60
    assert sorted(tried(tmp_path)) == [*range(100)]  # none is tried twice


def test_a_job_with_one_success_does_not_end(work: Any):
    assert sum(receipt.failed for receipt in work(20, range(1, 20))) == 19


def test_videos_that_fail_for_reasons_of_their_own_do_not_end_the_job(work: Any):
    assert all(receipt.failed for receipt in work(20, range(20), reason="{video:c} is wrong"))


def test_few_videos_that_all_fail_are_all_noted(work: Any):
    assert all(receipt.failed for receipt in work(3, range(3), 4))


def test_segments_of_an_attempt_that_ended_early_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They were finished after the plan was made, at 50; their costs are learned, too."""
    times = {0: 49.0, 10: 50.0, 20: 99.0}
    monkeypatch.setattr(
        Completion, "finished_at", lambda self, stage, video, span: ([FIELDS], times[span.start])
    )
    segments = {n: PlannedSegment(0, 10 * n, 10 * n + 10, 1.0, 1.0) for n in range(3)}
    part = ShardPlan("infer", "1-of-1", [0, 1, 2], {0: ProbedVideo("v", "v.mp4")}, segments)
    settings = parse_settings({"output": {"video": "none"}})
    completion = Completion(ResultKeys(settings, "a model"), Cache(tmp_path), 9)
    receipt = run_shard(part, completion, settings, lambda _: None, planned_at=50)
    assert [each.is_new for each in receipt.segments] == [False, True, True]
    assert [each.computed for each in receipt.segments] == [False] * 3
    receipt = run_shard(part, completion, settings, lambda _: None)
    assert [each.is_new for each in receipt.segments] == [False] * 3


def no_such_name(task: Any) -> None:
    raise NameError(f"no such name, at {task.segment.start}")


def test_the_traceback_is_logged_once_by_all_processes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = parse_settings(
        {"videos": [str(SAMPLE)], "segment_frames": 50, "cache": str(tmp_path)}
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    part = next(plan.shard_plans("infer"))
    completion = Completion(ResultKeys(settings, "a model"), Cache(tmp_path), 9)
    task = shard.SegmentTask(part, completion, Stager(None), no_such_name)
    caplog.clear()
    for number in (0, 1):
        in_another_process = pickle.loads(pickle.dumps(task))
        outcome = in_another_process(number, False, lambda n: None)
        assert (outcome.kind, "no such name" in outcome.value) == ("failed", True)
        task.note(outcome)
    assert [bool(record.exc_info) for record in caplog.records] == [True]
