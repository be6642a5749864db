"""Which entries a segment has, and when it is finished: one answer for plan, jobs and status."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pvio.cache.entries import Cache
from pvio.config.settings import Settings, parse_settings
from pvio.models.entry import model_fingerprint
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import CacheEntry, ResultKeys
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.planning.segments import Segment
from pvio.pipeline.stages.plan import make_plan

VIDEO = ProbedVideo("a", "/a.mp4", index_key="i" * 32, digest="d", height=64, width=64)
FIRST, SECOND = Segment(0, 0, 10), Segment(0, 10, 20)
GOOD: dict[str, Any] = {"given_up": "", "patience": 120.0, "seconds": {"total": 1.0}}
SKIPPED = {**GOOD, "given_up": "the decoder hung at frame 3"}


class Known:
    """A cache with the entries of a run.

    Args:
        folder: of the cache.
        settings: others than the defaults.
    """

    def __init__(self, folder: Path, **settings: Any):
        self.settings = parse_settings({"cache": str(folder), **settings})
        self.cache = Cache(folder)
        self.keys = ResultKeys(self.settings, "a model")

    def put(self, entry: CacheEntry, metadata: dict[str, Any]) -> str:
        """Cache an entry; its digest."""
        self.cache.write(*entry, b"payload of " + entry.key.encode(), metadata)
        return str(self.cache.metadata(*entry)["digest"])

    def finish(self, segment: Segment = FIRST, **changed: Any) -> None:
        """Cache what infer and encode make of a segment."""
        entry = self.keys.predictions(VIDEO, segment)
        digest = self.put(entry, GOOD)
        self.put(self.keys.video(VIDEO, segment), {**GOOD, "rows": {entry.key: digest}, **changed})

    @property
    def completion(self) -> Completion:
        return Completion(self.keys, self.cache, self.settings.decoder_timeout)

    def is_finished(self, segment: Segment = FIRST) -> tuple[bool, bool]:
        """Whether infer and encode have finished a segment, by plan and status as by the jobs."""
        (state,) = self.completion.states([(VIDEO, segment)])
        assert not state.reason
        by_jobs = self.completion.finished("infer", VIDEO, segment) is not None
        assert state.is_finished("infer") == by_jobs
        if by_jobs:
            found = self.completion.finished("encode", VIDEO, segment)
            assert state.is_finished("encode") == (found is not None)
        return state.is_finished("infer"), state.is_finished("encode")


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known(tmp_path)


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-40] + b"?" + data[-39:])


@pytest.mark.parametrize(
    ("output", "infer", "encode"),
    [
        ("none", ["predictions"], []),
        ("overlay", ["predictions"], ["video"]),
        ("frames", ["predictions", "video"], []),
    ],
)
def test_the_output_determines_what_each_stage_computes(
    output: str, infer: list[str], encode: list[str]
):
    keys = ResultKeys(parse_settings({"output": {"video": output}}), "a model")
    assert [entry.kind for entry in keys.produced_by("infer", VIDEO, FIRST)] == infer
    assert [entry.kind for entry in keys.produced_by("encode", VIDEO, FIRST)] == encode
    assert keys.stages == (("infer", "encode") if encode else ("infer",))
    settings = keys.output
    assert settings.makes_video == ("video" in infer + encode)
    assert settings.encodes_in("infer") == ("video" in infer)
    assert settings.encodes_in("encode") == bool(encode)
    entries = list(keys.all_entries([VIDEO], [(0, FIRST), (0, SECOND)]))
    assert Counter(entry.kind for entry in entries) == Counter(["index", *(infer + encode) * 2])
    assert len(set(entries)) == len(entries)


def test_no_key_depends_on_the_staging_folder():
    without, with_one = (
        ResultKeys(parse_settings({"staging_dir": folder}), "a model") for folder in (None, "/fast")
    )
    segments = [(0, FIRST), (0, SECOND)]
    assert list(without.all_entries([VIDEO], segments)) == list(
        with_one.all_entries([VIDEO], segments)
    )


def test_what_encode_reads_is_what_infer_computes():
    keys = ResultKeys(Settings(), "a model")
    assert keys.needed_by("encode", VIDEO, FIRST) == keys.produced_by("infer", VIDEO, FIRST)
    assert keys.needed_by("infer", VIDEO, FIRST) == ()


def test_nothing_is_finished_in_an_empty_cache(known: Known):
    assert known.is_finished() == (False, False)


def test_a_segment_with_all_entries_is_finished(known: Known):
    known.finish()
    assert known.is_finished() == (True, True)
    assert known.is_finished(SECOND) == (False, False)


def test_predictions_alone_finish_infer(known: Known):
    known.put(known.keys.predictions(VIDEO, FIRST), GOOD)
    assert known.is_finished() == (True, False)


def test_a_video_does_not_count_without_the_predictions(known: Known):
    known.finish()
    known.cache.remove(*known.keys.predictions(VIDEO, FIRST))
    assert known.is_finished() == (False, False)


@pytest.mark.parametrize("kind", ["predictions", "video"])
def test_a_damaged_entry_does_not_count(known: Known, kind: str, caplog: pytest.LogCaptureFixture):
    known.finish()
    damage(known.cache.path(*getattr(known.keys, kind)(VIDEO, FIRST)))
    with caplog.at_level(logging.WARNING):
        assert known.is_finished() == (kind == "video", False)
    assert "it is computed again" in caplog.text


@pytest.mark.parametrize("timeout", [60, 120, 121])
@pytest.mark.parametrize(
    "names", [{}, {"given_up": "skipped_reason", "patience": "timeout"}], ids=["old", "new"]
)
def test_skipped_frames_are_tried_again_with_a_longer_timeout(
    tmp_path: Path, timeout: float, names: dict[str, str]
):
    known = Known(tmp_path, decoder_timeout=timeout)
    metadata = {names.get(name, name): value for name, value in SKIPPED.items()}
    known.put(known.keys.predictions(VIDEO, FIRST), metadata)
    assert known.is_finished()[0] == (timeout <= 120)


def test_what_was_drawn_from_other_rows_does_not_count(known: Known):
    known.finish()
    known.put(known.keys.predictions(VIDEO, FIRST), {**GOOD, "other": 1})
    assert known.is_finished() == (True, True)  # of the same payload
    known.cache.write(*known.keys.predictions(VIDEO, FIRST), b"other rows", GOOD)
    assert known.is_finished() == (True, False)


def test_rows_of_the_past_count_too(known: Known):
    known.finish(FIRST)
    past, own = (known.keys.predictions(VIDEO, each) for each in (FIRST, SECOND))
    digests = {past.key: str(known.cache.metadata(*past)["digest"]), own.key: known.put(own, GOOD)}
    known.finish(SECOND, rows=digests)
    assert known.is_finished(SECOND) == (True, True)
    known.cache.write(*past, b"other rows", GOOD)
    assert known.is_finished(SECOND) == (True, False)
    known.cache.remove(*past)
    assert known.is_finished(SECOND) == (True, False)


@pytest.mark.parametrize("change", [{"seconds": {}}, {"seconds": 3}, {"rows": 3}])
def test_an_entry_of_another_form_does_not_count(known: Known, change: dict[str, Any]):
    known.finish()
    known.put(known.keys.predictions(VIDEO, FIRST), {**GOOD, **change})
    assert known.is_finished() == (False, False)


def test_with_returned_frames_both_entries_are_of_infer(tmp_path: Path):
    known = Known(tmp_path, output={"video": "frames"})
    predictions, video = known.keys.produced_by("infer", VIDEO, FIRST)
    known.put(predictions, GOOD)
    assert known.completion.finished("infer", VIDEO, FIRST) is None
    known.put(video, GOOD)
    found = known.completion.finished("infer", VIDEO, FIRST)
    assert found is not None
    assert [each["digest"] for each in found] == [
        known.cache.metadata(*entry)["digest"] for entry in (predictions, video)
    ]


def test_each_entry_is_read_once_for_the_plan(known: Known, monkeypatch: pytest.MonkeyPatch):
    """Though the drawing of each segment is compared with the rows of the one before."""
    segments = [Segment(0, 10 * k, 10 * k + 10) for k in range(5)]
    rows: dict[str, str] = {}
    for segment in segments:
        entry = known.keys.predictions(VIDEO, segment)
        rows[entry.key] = known.put(entry, GOOD)
        known.finish(segment, rows=dict(rows))
    read: Counter[CacheEntry] = Counter()
    find = Cache.find

    def counted(cache: Cache, kind: Any, key: str) -> Any:
        read[CacheEntry(kind, key)] += 1
        return find(cache, kind, key)

    monkeypatch.setattr(Cache, "find", counted)
    states = known.completion.states([(VIDEO, segment) for segment in segments])
    assert all(state.is_finished("encode") for state in states)
    assert set(read.values()) == {1}
    assert len(read) == 10


def test_damage_is_logged_for_some_entries_and_not_for_a_million(
    known: Known, caplog: pytest.LogCaptureFixture
):
    segments = [Segment(0, k, k + 1) for k in range(100)]
    for segment in segments:
        known.finish(segment)
        damage(known.cache.path(*known.keys.predictions(VIDEO, segment)))
    with caplog.at_level(logging.WARNING):
        known.completion.states([(VIDEO, segment) for segment in segments])
    assert 10 < len(caplog.records) < 30
    assert "not listed" in caplog.text


def test_the_plan_counts_a_damaged_segment_as_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def index(video: ProbedVideo, cache: Cache, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(n_frames=20, keyframes=np.array([0, 10]))

    monkeypatch.setattr("pvio.pipeline.stages.plan.index_of", index)
    known = Known(tmp_path, segment_frames=10)
    known.keys = ResultKeys(known.settings, model_fingerprint(known.settings.model))
    for segment in (FIRST, SECOND):
        known.finish(segment)

    def seconds() -> dict[str, float]:
        _, resources = make_plan([VIDEO], known.settings, 1)
        return {stage: found[0].seconds for stage, found in resources.items()}

    assert max(seconds().values()) <= 0.002  # two lookups
    damage(known.cache.path(*known.keys.video(VIDEO, SECOND)))
    assert seconds()["infer"] <= 0.002 < seconds()["encode"]
    damage(known.cache.path(*known.keys.predictions(VIDEO, SECOND)))
    assert seconds()["infer"] > 0.002


@pytest.mark.parametrize(("output", "stages"), [("none", 1), ("frames", 1), ("overlay", 2)])
def test_the_plan_has_no_shards_of_a_stage_that_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, stages: int
):
    settings = parse_settings({"cache": str(tmp_path), "output": {"video": output}})
    plan, resources = make_plan([], settings, 3)
    assert len(resources) == stages
    assert [len(plan.infer_shards), len(plan.encode_shards)] == [3, 3 if stages == 2 else 0]
