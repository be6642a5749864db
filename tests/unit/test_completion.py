"""Which entries a segment has, and when it is finished: one answer for plan, jobs and status."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pvio.cache.store import Store
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


class Cache:
    """A cache with the entries of a run.

    Args:
        folder: of the cache.
        settings: others than the defaults.
    """

    def __init__(self, folder: Path, **settings: Any):
        self.settings = parse_settings({"cache": str(folder), **settings})
        self.store = Store(folder)
        self.keys = ResultKeys(self.settings, "a model")

    def put(self, entry: CacheEntry, metadata: dict[str, Any]) -> str:
        """Store an entry; its digest."""
        self.store.write(*entry, b"payload of " + entry.key.encode(), metadata)
        return str(self.store.info(*entry)["digest"])

    def finish(self, segment: Segment = FIRST, **changed: Any) -> None:
        """Store what infer and encode make of a segment."""
        entry = self.keys.predictions(VIDEO, segment)
        digest = self.put(entry, GOOD)
        self.put(self.keys.video(VIDEO, segment), {**GOOD, "rows": {entry.key: digest}, **changed})

    @property
    def completion(self) -> Completion:
        return Completion(self.keys, self.store, self.settings.decoder_timeout)

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
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


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
def test_the_output_tells_what_each_stage_computes(
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


def test_what_encode_reads_is_what_infer_computes():
    keys = ResultKeys(Settings(), "a model")
    assert keys.needed_by("encode", VIDEO, FIRST) == keys.produced_by("infer", VIDEO, FIRST)
    assert keys.needed_by("infer", VIDEO, FIRST) == ()


def test_nothing_is_finished_in_an_empty_cache(cache: Cache):
    assert cache.is_finished() == (False, False)


def test_a_segment_with_all_entries_is_finished(cache: Cache):
    cache.finish()
    assert cache.is_finished() == (True, True)
    assert cache.is_finished(SECOND) == (False, False)


def test_predictions_alone_finish_infer(cache: Cache):
    cache.put(cache.keys.predictions(VIDEO, FIRST), GOOD)
    assert cache.is_finished() == (True, False)


def test_a_video_does_not_count_without_the_predictions(cache: Cache):
    cache.finish()
    cache.store.discard(*cache.keys.predictions(VIDEO, FIRST))
    assert cache.is_finished() == (False, False)


@pytest.mark.parametrize("kind", ["predictions", "video"])
def test_a_damaged_entry_does_not_count(cache: Cache, kind: str, caplog: pytest.LogCaptureFixture):
    cache.finish()
    damage(cache.store.path(*getattr(cache.keys, kind)(VIDEO, FIRST)))
    with caplog.at_level(logging.WARNING):
        assert cache.is_finished() == (kind == "video", False)
    assert "it is computed again" in caplog.text


@pytest.mark.parametrize("timeout", [60, 120, 121])
@pytest.mark.parametrize(
    "names", [{}, {"given_up": "skipped_reason", "patience": "timeout"}], ids=["old", "new"]
)
def test_skipped_frames_are_tried_again_with_a_longer_timeout(
    tmp_path: Path, timeout: float, names: dict[str, str]
):
    cache = Cache(tmp_path, decoder_timeout=timeout)
    metadata = {names.get(name, name): value for name, value in SKIPPED.items()}
    cache.put(cache.keys.predictions(VIDEO, FIRST), metadata)
    assert cache.is_finished()[0] == (timeout <= 120)


def test_what_was_drawn_from_other_rows_does_not_count(cache: Cache):
    cache.finish()
    cache.put(cache.keys.predictions(VIDEO, FIRST), {**GOOD, "other": 1})
    assert cache.is_finished() == (True, True)  # of the same payload
    cache.store.write(*cache.keys.predictions(VIDEO, FIRST), b"other rows", GOOD)
    assert cache.is_finished() == (True, False)


def test_rows_of_the_past_count_too(cache: Cache):
    cache.finish(FIRST)
    past, own = (cache.keys.predictions(VIDEO, each) for each in (FIRST, SECOND))
    digests = {past.key: str(cache.store.info(*past)["digest"]), own.key: cache.put(own, GOOD)}
    cache.finish(SECOND, rows=digests)
    assert cache.is_finished(SECOND) == (True, True)
    cache.store.write(*past, b"other rows", GOOD)
    assert cache.is_finished(SECOND) == (True, False)
    cache.store.discard(*past)
    assert cache.is_finished(SECOND) == (True, False)


@pytest.mark.parametrize("change", [{"seconds": {}}, {"seconds": 3}, {"rows": 3}])
def test_an_entry_of_another_form_does_not_count(cache: Cache, change: dict[str, Any]):
    cache.finish()
    cache.put(cache.keys.predictions(VIDEO, FIRST), {**GOOD, **change})
    assert cache.is_finished() == (False, False)


def test_with_returned_frames_both_entries_are_of_infer(tmp_path: Path):
    cache = Cache(tmp_path, output={"video": "frames"})
    predictions, video = cache.keys.produced_by("infer", VIDEO, FIRST)
    cache.put(predictions, GOOD)
    assert cache.completion.finished("infer", VIDEO, FIRST) is None
    cache.put(video, GOOD)
    found = cache.completion.finished("infer", VIDEO, FIRST)
    assert found is not None
    assert [each["digest"] for each in found] == [
        cache.store.info(*entry)["digest"] for entry in (predictions, video)
    ]


def test_each_entry_is_read_once_for_the_plan(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    """Though the drawing of each segment is compared with the rows of the one before."""
    segments = [Segment(0, 10 * k, 10 * k + 10) for k in range(5)]
    rows: dict[str, str] = {}
    for segment in segments:
        entry = cache.keys.predictions(VIDEO, segment)
        rows[entry.key] = cache.put(entry, GOOD)
        cache.finish(segment, rows=dict(rows))
    read: Counter[CacheEntry] = Counter()
    find = Store.find

    def counted(store: Store, kind: Any, key: str) -> Any:
        read[CacheEntry(kind, key)] += 1
        return find(store, kind, key)

    monkeypatch.setattr(Store, "find", counted)
    states = cache.completion.states([(VIDEO, segment) for segment in segments])
    assert all(state.is_finished("encode") for state in states)
    assert set(read.values()) == {1}
    assert len(read) == 10


def test_damage_is_logged_for_some_entries_and_not_for_a_million(
    cache: Cache, caplog: pytest.LogCaptureFixture
):
    segments = [Segment(0, k, k + 1) for k in range(100)]
    for segment in segments:
        cache.finish(segment)
        damage(cache.store.path(*cache.keys.predictions(VIDEO, segment)))
    with caplog.at_level(logging.WARNING):
        cache.completion.states([(VIDEO, segment) for segment in segments])
    assert 10 < len(caplog.records) < 30
    assert "not listed" in caplog.text


def test_the_plan_counts_a_damaged_segment_as_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def index(video: ProbedVideo, store: Store) -> SimpleNamespace:
        return SimpleNamespace(n_frames=20, keyframes=np.array([0, 10]))

    monkeypatch.setattr("pvio.pipeline.stages.plan.index_of", index)
    cache = Cache(tmp_path, segment_frames=10)
    cache.keys = ResultKeys(cache.settings, model_fingerprint(cache.settings.model))
    for segment in (FIRST, SECOND):
        cache.finish(segment)

    def seconds() -> dict[str, float]:
        _, resources = make_plan([VIDEO], cache.settings, 1)
        return {stage: found[0].seconds for stage, found in resources.items()}

    assert max(seconds().values()) <= 0.002  # two lookups
    damage(cache.store.path(*cache.keys.video(VIDEO, SECOND)))
    assert seconds()["infer"] <= 0.002 < seconds()["encode"]
    damage(cache.store.path(*cache.keys.predictions(VIDEO, SECOND)))
    assert seconds()["infer"] > 0.002


@pytest.mark.parametrize(("output", "stages"), [("none", 1), ("frames", 1), ("overlay", 2)])
def test_the_plan_has_no_shards_of_a_stage_that_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, stages: int
):
    settings = parse_settings({"cache": str(tmp_path), "output": {"video": output}})
    plan, resources = make_plan([], settings, 3)
    assert len(resources) == stages
    assert [len(plan.infer_shards), len(plan.encode_shards)] == [3, 3 if stages == 2 else 0]
