"""Videos among the results: their name follows from the codec, and `verify` finds them right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pvio.config.settings import parse_settings
from pvio.pipeline.planning.manifest import Receipt
from pvio.pipeline.results.verify import verify
from pvio.pipeline.stages.assemble import assemble
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

Clip = Callable[[str], Path]

MODEL = """
def brightness(frames):
    return {"brightness": frames.mean(dim=(1, 2, 3))}
"""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Clip, in_this_process: Any
) -> Iterator[Any]:
    """All stages on one clip in a folder of their own."""
    in_this_process(monkeypatch)
    (tmp_path / "bright.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    threads = torch.get_num_threads()

    def work(name: str, **output: Any) -> list[str]:
        settings = parse_settings(
            {
                "videos": [str(clip(name))],
                "segment_frames": 10,
                "model": {"entry": "bright.py:brightness", "device": "cpu"},
                "output": {"crf": 30, **output},
            }
        )
        plan, _ = make_plan(probe(settings), settings, 1)
        receipts = [
            infer(next(plan.shard_plans("infer")), settings),
            encode(next(plan.shard_plans("encode")), settings),
        ]
        work.plan, work.settings, work.receipts = plan, settings, receipts  # type: ignore[attr-defined]
        (row,) = assemble(plan, settings, receipts, "results")
        assert (row.status, row.reason) == ("ok", "")
        return sorted(path.name for path in Path("results/videos").iterdir())

    yield work
    torch.set_num_threads(threads)


def skip_frames(receipt: Receipt, reason: str) -> Receipt:
    """The receipt as if frames of all segments had been skipped."""
    segments = [replace(done, skipped_reason=reason) for done in receipt.segments]
    return replace(receipt, segments=segments)


@pytest.mark.parametrize("skipped", ["infer", "encode"])
def test_frames_that_are_skipped_in_a_stage_are_reported_once(
    run: Any, monkeypatch: pytest.MonkeyPatch, skipped: str
):
    run("plain.mp4")
    plan, settings, receipts = run.plan, run.settings, list(run.receipts)
    assert len(plan.segments) > 1
    number = ["infer", "encode"].index(skipped)
    receipts[number] = skip_frames(receipts[number], "the decoder hung at frame 3")
    (row,) = assemble(plan, settings, receipts, "results")
    assert row.reason.count("the decoder hung at frame 3") == 1
    assert ("new video" in row.reason) == (skipped == "encode")
    assert row.status == ("damaged" if skipped == "encode" else "ok")


def test_a_video_of_another_codec_takes_the_place_of_the_one_before(run: Any):
    assert run("variable_rate.mp4", preset="ultrafast") == ["variable_rate.mp4"]
    assert run("variable_rate.mp4", codec="ffv1") == ["variable_rate.mkv"]
    assert run("variable_rate.mp4", preset="ultrafast") == ["variable_rate.mp4"]


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
@pytest.mark.parametrize("name", ["variable_rate.mp4", "b_frames.mp4", "repeated_times_b.mkv"])
def test_verify_finds_videos_right(run: Any, name: str, codec: str):
    run(name, codec=codec)
    assert verify(Path("results")) == ([], [])


def test_verify_finds_a_video_that_is_not_as_written(run: Any):
    run("plain.mp4", codec="ffv1")
    path = Path("results/videos/plain.mkv")
    path.write_bytes(path.read_bytes()[:-1])
    errors, _ = verify(Path("results"))
    assert errors[0] == "videos/plain.mkv: the file was changed: its digest differs"


def test_results_that_are_made_again_without_a_change_keep_their_times(run: Any):
    """Rules of other workflows that read them do not run again."""
    run("plain.mp4")
    names = ("summary.tsv", "predictions/plain.parquet", "videos/plain.mp4")
    before = {name: Path("results", name).stat().st_mtime_ns for name in names}
    assemble(run.plan, run.settings, run.receipts, "results")
    assert {name: Path("results", name).stat().st_mtime_ns for name in names} == before
    assert verify(Path("results")) == ([], [])
