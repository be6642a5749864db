"""Finished videos appear in the results at once, whole, and never mixed with other settings."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from stages import run_stages

from pvio import read_predictions
from pvio.cache.entries import Cache
from pvio.cli.main import main
from pvio.cli.status.compare import status
from pvio.cli.status.text import describe
from pvio.config.settings import Settings, parse_settings
from pvio.errors import ConfigError, NoSpaceLeft, NotWritable
from pvio.layout import NEXT_SUFFIX
from pvio.pipeline.jobs import shard
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import Plan, Receipt
from pvio.pipeline.publishing import published_products
from pvio.pipeline.publishing.current import remove_outdated
from pvio.pipeline.publishing.folders import publishing_folder, remove_other_next
from pvio.pipeline.publishing.process import PublishingProcess
from pvio.pipeline.results.product_table import read_products
from pvio.pipeline.results.verify import verify
from pvio.pipeline.stages.assemble import assemble
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

MODEL = """
import torch

class Bright:
    def __init__(self, factor=1.0, fails_at=""):
        self.factor, self.fails_at = factor, fails_at
    def prepare(self, video):
        self.fails = bool(self.fails_at) and self.fails_at in video.path
    def __call__(self, frames):
        if self.fails:
            raise ValueError("this video fails")
        return self.factor * frames.mean(dim=(1, 2, 3))
"""
NAMES = ("a", "b", "c")


@pytest.fixture
def folder(
    clip: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_this_process: Any,
) -> Iterator[Path]:
    """A working folder with three videos of four segments each; only their times differ."""
    in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    for name in NAMES:
        shutil.copy(clip("b_frames.mp4"), tmp_path / f"clips/{name}.mp4")
        with (tmp_path / f"clips/{name}.mp4").open("ab") as file:
            # A box that players ignore: each file has a content of its own.
            file.write((16).to_bytes(4, "big") + b"free" + name.encode() * 8)
    (tmp_path / "publishing_model.py").write_text(MODEL)
    threads, path = torch.get_num_threads(), sys.path.copy()
    yield tmp_path
    torch.set_num_threads(threads)
    sys.path[:] = path


def planned(n_shards: int = 2, **changed: Any) -> tuple[Plan, Settings]:
    """The plan of the videos in the working folder, and the settings."""
    args, exclude = changed.pop("args", {}), changed.pop("exclude", [])
    settings = parse_settings(
        {
            "videos": ["clips"],
            "exclude": exclude,
            "segment_frames": 12,
            "model": {"entry": "publishing_model.py:Bright", "args": args, "device": "cpu"},
            "output": {"crf": 40, "preset": "ultrafast", **changed},
        }
    )
    plan = make_plan(probe(settings), settings, n_shards)[0]
    remove_other_next("results", plan.made_with)
    return plan, settings


def finish(plan: Plan, settings: Settings) -> list[Any]:
    """Run all jobs, and the last stage."""
    receipts = [infer(part, settings, results="results") for part in plan.shard_plans("infer")]
    receipts += [encode(part, settings, results="results") for part in plan.shard_plans("encode")]
    return assemble(plan, settings, receipts, "results")


def files(folder: Path | str) -> dict[str, bytes]:
    """The products in a folder."""
    found = [path for kind in ("predictions", "videos") for path in Path(folder, kind).glob("*")]
    return {path.name: path.read_bytes() for path in found}


def tables(folder: Path | str) -> set[str]:
    return {path.stem for path in Path(folder, "predictions").glob("*")}


def test_a_video_appears_with_the_job_that_finishes_its_last_segment(folder: Path):
    plan, settings = planned()
    first, second = plan.shard_plans("infer")
    infer(first, settings, results="results")
    of_first = {plan.segments[number].video for number in first.segment_numbers}
    of_second = {plan.segments[number].video for number in second.segment_numbers}
    assert of_first & of_second  # a video of both
    assert tables("results") == {NAMES[video] for video in of_first - of_second}
    receipt = infer(second, settings, results="results")
    assert tables("results") == set(NAMES)
    assert receipt.segments
    early = files("results")
    rows = finish(plan, settings)
    assert [row.status for row in rows] == ["ok"] * 3
    assert {name: files("results")[name] for name in early} == early


def test_products_are_the_bytes_of_a_run_without_publishing(folder: Path):
    plan, settings = planned()
    finish(plan, settings)
    early = files("results")
    assert len(early) == 6
    shutil.rmtree("results")
    receipts: list[Receipt] = [infer(part, settings) for part in plan.shard_plans("infer")]
    receipts += [encode(part, settings) for part in plan.shard_plans("encode")]
    assert not Path("results").exists()
    assemble(plan, settings, receipts, "results")
    assert files("results") == early


def test_videos_appear_while_others_are_computed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    seen: list[set[str]] = []

    log_or_raise = shard._log_or_raise

    def noting(outcome: Any, name: str) -> None:
        seen.append(tables("results"))
        log_or_raise(outcome, name)

    monkeypatch.setattr(shard, "_log_or_raise", noting)
    infer(part, settings, results="results")
    assert [len(each) for each in seen] == [0] * 4 + [1] * 4 + [2] * 4


def test_products_of_other_settings_stay_whole_until_the_end(folder: Path):
    finish(*planned())
    before = files("results")
    plan, settings = planned(crf=20)
    for part in plan.shard_plans("infer"):
        infer(part, settings, results="results")
    newer = Path("results" + NEXT_SUFFIX)
    assert files("results") == before
    assert tables(newer) == set(NAMES)
    for name in NAMES:  # the same tables, once on the disk
        table = Path("predictions", f"{name}.parquet")
        assert (newer / table).stat().st_ino == Path("results", table).stat().st_ino
    for part in plan.shard_plans("encode"):
        encode(part, settings, results="results")
    assert files("results") == before
    new = files(newer)
    assert new.keys() == before.keys()
    finish(plan, settings)
    assert files("results") == new
    assert new != before
    assert not newer.exists()


def test_what_abandoned_settings_left_is_removed_by_the_next_plan(folder: Path):
    finish(*planned())
    plan, settings = planned(crf=20)
    for part in plan.shard_plans("infer"):
        infer(part, settings, results="results")
    assert Path("results.next").exists()
    other, more = planned(crf=30)
    assert not Path("results.next").exists()
    # A job of the abandoned run that still runs publishes nothing in the folder of the next.
    for part in other.shard_plans("infer"):
        infer(part, more, results="results")
    present = sorted(Path("results.next").rglob("*"))
    for part in plan.shard_plans("encode"):
        encode(part, settings, results="results")
    assert sorted(Path("results.next").rglob("*")) == present


def test_a_video_that_fails_is_not_published_and_the_others_are(folder: Path):
    plan, settings = planned(args={"fails_at": "b.mp4"})
    receipts = [infer(part, settings, results="results") for part in plan.shard_plans("infer")]
    assert tables("results") == {"a", "c"}
    failures = {
        (receipt.stage, done.segment): done
        for receipt in receipts
        for done in receipt.segments
        if done.failure_reason
    }
    receipts += [
        encode(part, settings, failures, results="results") for part in plan.shard_plans("encode")
    ]
    assert {path.stem for path in Path("results/videos").glob("*")} == {"a", "c"}
    rows = assemble(plan, settings, receipts, "results")
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert tables("results") == {"a", "c"}


def test_a_run_that_is_continued_publishes_what_was_computed_before(folder: Path):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    infer(part, settings)
    assert not Path("results").exists()
    infer(part, settings, results="results")
    assert tables("results") == set(NAMES)


def test_an_end_between_the_note_and_the_file_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(published_products.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            infer(part, settings, results="results")
    assert tables("results") == set()
    finish(plan, settings)
    assert tables("results") == set(NAMES)
    assert not Path("results/.products").exists()


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(folder: Path):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    infer(part, settings, results="results")
    (journal,) = Path("results/.products").glob("*.jsonl")
    lines = journal.read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == [
        f"predictions/{name}.parquet" for name in NAMES
    ]
    journal.write_text("\n".join(lines)[:-20])
    Path("results/predictions/c.parquet").unlink()  # renamed only after its note
    assert set(read_products(Path("results"))) == {f"predictions/{name}.parquet" for name in "ab"}
    finish(plan, settings)
    assert tables("results") == set(NAMES)


def test_a_product_that_somebody_changed_is_made_again(folder: Path):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    infer(part, settings, results="results")
    whole = files("results")
    Path("results/predictions/b.parquet").write_bytes(b"edited")
    finish(plan, settings)
    assert files("results")["b.parquet"] == whole["b.parquet"]


def test_files_of_the_user_stay_and_nothing_unfinished_is_visible(folder: Path):
    plan, settings = planned(1)
    Path("results/predictions").mkdir(parents=True)
    Path("results/notes.txt").write_text("mine")
    Path("results/predictions/mine.csv").write_text("mine")
    (part,) = plan.shard_plans("infer")
    infer(part, settings, results="results")
    assert {path.name for path in Path("results/predictions").iterdir()} == {
        *(f"{name}.parquet" for name in NAMES),
        "mine.csv",
    }
    finish(plan, settings)
    assert Path("results/notes.txt").read_text() == "mine"
    assert Path("results/predictions/mine.csv").read_text() == "mine"


def test_a_full_disk_under_the_results_stops_no_job(folder: Path, caplog: Any):
    caplog.set_level(logging.WARNING)
    plan, settings = planned(1)
    Path("results").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "results"],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        (part,) = plan.shard_plans("infer")
        receipt = infer(part, settings, results="results")
        assert not any(segment.failure_reason for segment in receipt.segments)
        assert "not published yet" in caplog.text
        assert os.strerror(28) in caplog.text
    finally:
        subprocess.run(["umount", "--lazy", "results"], check=True)
    finish(plan, settings)
    assert tables("results") == set(NAMES)


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """`disk/` with 20 KiB; to be called with options of `mount`."""
    Path("disk").mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", "disk"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small file system")

    mount("size=20k")
    yield mount
    subprocess.run(["umount", "--lazy", "disk"], check=True)


@pytest.mark.parametrize(
    ("broken", "fixed", "error", "text"),
    [
        ("remount,size=20k", "remount,size=10m", NoSpaceLeft, "no space is left"),
        ("remount,ro", "remount,rw,size=10m", NotWritable, "cannot be written"),
    ],
)
def test_a_disk_that_refuses_results_costs_only_what_is_missing(
    folder: Path,
    small_disk: Callable[[str], None],
    caplog: Any,
    broken: str,
    fixed: str,
    error: type[Exception],
    text: str,
):
    plan, settings = planned(1)
    small_disk(broken)
    parts = [next(plan.shard_plans(stage)) for stage in ("infer", "encode")]
    receipts = [
        infer(parts[0], settings, results="disk/results"),
        encode(parts[1], settings, results="disk/results"),
    ]
    assert not any(done.failure_reason for each in receipts for done in each.segments)
    assert "not published yet" in caplog.text
    published = files("disk/results")
    with pytest.raises(error, match=rf"(?s){text}.*0 of 3 videos have results.*Missing: a, b, c"):
        assemble(plan, settings, receipts, "disk/results")
    assert files("disk/results") == published  # whole, and still there
    small_disk(fixed)
    assemble(plan, settings, receipts, "disk/results")
    assert len(files("disk/results")) == 6
    assert published.items() <= files("disk/results").items()
    assert not [path for path in Path("disk").iterdir() if path.name != "results"]


def test_results_that_are_a_file_cost_no_work(folder: Path, caplog: Any):
    plan, settings = planned(1)
    Path("results").write_text("mine")
    with pytest.raises(NotWritable, match=r"is a file.*0 of 3 videos"):
        finish(plan, settings)
    assert "not published yet: 'results' is a file" in caplog.text
    assert Path("results").read_text() == "mine"
    Path("results").rename("mine.txt")
    finish(plan, settings)
    assert len(files("results")) == 6


def test_the_product_of_a_file_that_was_replaced_is_removed_by_the_next_plan(
    folder: Path, caplog: Any
):
    plan, settings = planned(1)
    finish(plan, settings)
    before = files("results")
    with Path("clips/b.mp4").open("ab") as file:
        file.write((16).to_bytes(4, "big") + b"free" + b"replaced")
    assert status(settings, folder).published == 2
    plan, settings = planned(1)
    assert remove_outdated("results", plan.made_with, plan.videos) == [
        "predictions/b.parquet", "videos/b.mp4"
    ]  # fmt: skip
    assert "2 results of files that were replaced since are removed" in caplog.text
    assert files("results").keys() == before.keys() - {"b.parquet", "b.mp4"}
    (part,) = plan.shard_plans("infer")
    infer(part, settings, results="results")
    assert read_predictions("results/predictions/b.parquet").metadata["source"].endswith("b.mp4")
    assert files("results")["b.parquet"] != before["b.parquet"] or plan.videos[1].digest
    assert remove_outdated("results", plan.made_with, plan.videos) == []
    finish(plan, settings)
    assert files("results").keys() == before.keys()


def test_results_of_videos_that_are_left_out_go_with_a_warning(folder: Path, caplog: Any):
    plan, settings = planned(1)
    finish(plan, settings)
    Path("clips/b.mp4").rename("clips/moved.mp4")
    plan, settings = planned(1, exclude=["a.mp4"])
    finish(plan, settings)
    assert tables("results") == {"c", "moved"}
    assert "the results of 1 video(s) are removed, since they are no longer in" in caplog.text
    assert caplog.text.rpartition("`exclude`): ")[2].splitlines()[0] == "a"
    assert "the results b are called moved now" in caplog.text


def test_status_tells_where_the_results_of_finished_videos_are(folder: Path):
    def said(settings: Settings) -> str:
        return describe(status(settings, folder), 2)

    plan, settings = planned(1)
    parts = [next(plan.shard_plans(stage)) for stage in ("infer", "encode")]
    receipts = [infer(parts[0], settings), encode(parts[1], settings)]
    assert "no folder has the results of the 3 finished videos yet" in said(settings)
    assert "nothing to compute; the next run joins them" in said(settings)
    assemble(plan, settings, receipts, "results")
    assert said(settings).endswith("nothing to compute")
    assert "results/" not in said(settings)

    plan, other = planned(1, crf=20)
    parts = [next(plan.shard_plans(stage)) for stage in ("infer", "encode")]
    infer(parts[0], other, results="results")
    receipts = [infer(parts[0], other), encode(parts[1], other, results="results")]
    text = said(other)
    assert "results/ has results of other settings" in text
    assert "results.next/ has 3 of 3 finished videos" in text
    assert "results.next/ is not of these settings" in said(settings)
    assemble(plan, other, receipts, "results")
    assert said(other).endswith("nothing to compute")
    assert "results/ has results of other settings" in said(settings)
    Path("results/videos/b.mp4").unlink()
    assert "results/ has 2 of 3 finished videos" in said(other)


def encoded(settings: Settings) -> dict[str, int]:
    """Number of files of the cache by kind, for what is encoded."""
    kinds = ("video", "released", "product")
    return {kind: len(list(Path(settings.cache, kind).glob("*/*"))) for kind in kinds}


def test_each_encoded_frame_is_once_on_the_disk(folder: Path):
    plan, settings = planned(1)
    finish(plan, settings)
    videos = files("results")
    assert encoded(settings) == {"video": 0, "released": 12, "product": 3}
    for name in NAMES:
        assert Path(f"results/videos/{name}.mp4").stat().st_nlink == 2
    # Results that are deleted, a file that is moved, and a time that is changed cost no encoding.
    os.utime("results/videos/c.mp4", (1, 1))
    Path("results/videos/a.mp4").unlink()
    Path("clips/b.mp4").rename("clips/moved.mp4")
    plan, settings = planned(1)
    assert plan.n_finished == 3
    (part,) = plan.shard_plans("encode")
    receipt = encode(part, settings, results="results")
    assert not any(done.computed for done in receipt.segments)
    finish(plan, settings)
    found = files("results")
    assert found["a.mp4"] == videos["a.mp4"]
    assert found["moved.mp4"] == videos["b.mp4"]
    assert found["c.mp4"] == videos["c.mp4"]
    assert encoded(settings) == {"video": 0, "released": 12, "product": 3}
    assert verify(Path("results")) == ([], [])


def test_an_end_amid_releasing_is_continued(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plan, settings = planned(1)
    remove, n = Cache.remove, 0

    def killed(cache: Cache, kind: Any, key: str) -> None:
        nonlocal n
        n += kind == "video"
        if n == 3:
            raise KeyboardInterrupt
        remove(cache, kind, key)

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            finish(plan, settings)
    assert encoded(settings) == {"video": 2, "released": 3, "product": 1}
    (part,) = plan.shard_plans("encode")
    receipt = encode(part, settings)
    assert [done.segment for done in receipt.segments if done.computed] == [*range(4, 12)]
    finish(plan, settings)
    assert encoded(settings) == {"video": 0, "released": 12, "product": 3}


def test_a_product_that_is_changed_in_place_is_encoded_again(folder: Path):
    plan, settings = planned(1)
    finish(plan, settings)
    videos = files("results")
    with Path("results/videos/b.mp4").open("r+b") as file:
        file.write(b"edited")
    plan, settings = planned(1)
    assert plan.n_finished == 2
    (part,) = plan.shard_plans("encode")
    receipt = encode(part, settings, results="results")
    assert sum(done.computed for done in receipt.segments) == 4
    finish(plan, settings)
    assert files("results") == videos


def test_a_segment_that_must_be_encoded_again_leaves_the_video_whole(folder: Path):
    plan, settings = planned(1)
    finish(plan, settings)
    videos = files("results")
    # As if its rows had changed: with the same bytes its video is restored, with others all of it
    # is encoded again.
    keys = ResultKeys(settings, plan.made_with["model"])
    cache = Cache(settings.cache)
    entries = [keys.video(plan.videos[0], plan.segments[n]) for n in range(4)]
    cache.remove("released", entries[1].key)
    Path("results/videos/a.mp4").unlink()
    (part,) = plan.shard_plans("encode")
    receipt = encode(part, settings, results="results")
    assert [done.segment for done in receipt.segments if done.computed] == [1]
    assert files("results") == videos
    _, metadata = cache.read("released", entries[1].key)
    cache.remove("released", entries[1].key)
    cache.write("video", entries[1].key, b"of another encoder", metadata)
    Path("results/videos/a.mp4").unlink()
    receipts = [infer(next(plan.shard_plans("infer")), settings)]
    receipts += [encode(part, settings, results="results")]
    assert not Path("results/videos/a.mp4").exists()
    assert not any(cache.has("released", entry.key) for entry in entries)


def test_segments_stay_where_the_results_are_on_another_disk(
    folder: Path, small_disk: Callable[[str], None]
):
    small_disk("remount,size=10m")
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    infer(part, settings)
    (part,) = plan.shard_plans("encode")
    encode(part, settings, results="disk/results")
    assert encoded(settings) == {"video": 12, "released": 0, "product": 0}


def test_the_setting_results_names_the_folder(folder: Path):
    entry = "publishing_model.py:Bright"
    settings = {
        "videos": ["clips"],
        "segment_frames": 12,
        "model": {"entry": entry, "device": "cpu"},
        "output": {"video": "none"},
    }
    done = run_stages(folder, **settings, results="somewhere/else")
    assert done.returncode == 0, done.stdout
    assert tables("somewhere/else") == set(NAMES)
    assert not Path("results").exists()
    (folder / "config.yaml").write_text(json.dumps({**settings, "results": "somewhere/else"}))
    found = CliRunner().invoke(main, ["verify"])
    assert (found.exit_code, found.output) == (0, "somewhere/else has no errors\n")
    assert "nothing to compute" in CliRunner().invoke(main, ["status"]).output


@pytest.mark.parametrize("results", ["", " ", ".", "..", "/", "~"])
def test_results_need_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="a folder for results alone"):
        parse_settings({"results": results})
    assert parse_settings({"results": "~/results"}).results == str(tmp_path / "results")


def test_the_job_goes_on_while_a_video_is_published(folder: Path, caplog: Any):
    plan, settings = planned(1)
    (part,) = plan.shard_plans("infer")
    infer(part, settings)
    Path("results").mkdir()
    os.mkfifo("results/.run.json")  # who reads it waits for a writer
    with PublishingProcess(part, settings, plan.made_with["model"], "results") as publisher:
        began = time.monotonic()
        for number in range(3):
            publisher.publish(number)
        assert publisher.published() == []
        assert time.monotonic() - began < 10
        time.sleep(0.5)
        assert publisher.published() == []
        assert publisher._child is not None
        os.kill(publisher._child.pid, signal.SIGKILL)
        Path("results/.run.json").unlink()
        publisher.wait()  # a crash costs the video at which it happened
        assert publisher.published() == [1, 2]
    assert "a.mp4: not published yet: it was killed" in caplog.text
    assert tables("results") == {"b", "c"}


def test_a_folder_with_products_of_no_run_is_not_touched(folder: Path):
    """Products whose settings are not known count as those of other settings."""
    finish(*planned())
    Path("results/.run.json").unlink()
    before = files("results")
    plan, settings = planned(args={"factor": 2.0})
    assert publishing_folder("results", plan.made_with) == Path("results.next").resolve()
    infer(next(plan.shard_plans("infer")), settings, results="results")
    assert files("results") == before
