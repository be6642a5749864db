"""`pvio status`: the finished work, the rest and the reasons, the speed, and the time left."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pvio.cache.entries import Cache
from pvio.cli.status.collection_state import State, current_state
from pvio.config.load import load_stored
from pvio.config.settings import Settings
from pvio.config.text import same
from pvio.errors import PvioError
from pvio.layout import (
    LOGS_FOLDER,
    PLAN_FILE,
    RESULTS_PLAN_FILE,
    RUN_FILE,
    SNAKEMAKE_LOCKS,
    Stage,
    predictions_file,
)
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.jobs.log import errors_of
from pvio.pipeline.planning.completion import Completion, SegmentState
from pvio.pipeline.planning.cost import CostModel, stage_workloads
from pvio.pipeline.planning.keys import ResultKeys, made_with
from pvio.pipeline.planning.manifest import ProbedVideo, read_plan
from pvio.pipeline.publishing.current import current_videos
from pvio.pipeline.publishing.folders import (
    folder_of_run,
    next_folder,
    publishing_name,
    run_of,
)
from pvio.pipeline.results.product_table import read_products

# How far back the rate of a run is measured.
_RECENT_SECONDS = 600.0
_LOST = "lost from the cache, or computed by another version of pvio"


@dataclass
class StageStatus:
    """One stage over the whole collection.

    Attributes:
        stage: "infer" or "encode".
        segments, frames: to do and done.
        segments_done, frames_done: of these.
        seconds_left: predicted for the rest, on one core or device.
        rate: frames per second of all jobs together in the last minutes; 0 when nothing was done.
    """

    stage: Stage
    segments: int = 0
    frames: int = 0
    segments_done: int = 0
    frames_done: int = 0
    seconds_left: float = 0.0
    rate: float = 0.0


@dataclass
class Status:
    """The findings of `pvio status`.

    Attributes:
        stages: infer, and encode when there is an overlay.
        videos: of the collection.
        finished: all of whose segments are in the cache.
        published: of these, those whose results are there, in `where`.
        results: name of the results folder.
        where: name of the folder with products of the present settings; "" without one.
        has_other_settings: whether the results are of other settings, or of an earlier version.
        has_other_next: whether `results.next` is of other settings, or not pvio's.
        not_indexed: videos that are new or have changed, so that their frames are not known.
        lost: names of results that are not where the last run has put them.
        unreadable: path and reason of each; they are tried again in every run.
        reasons: why others are to be computed: paths by reason.
        removed: names of videos in the results that are no longer in the collection.
        is_running: whether Snakemake holds the lock of the working folder.
        failures: log file and error of jobs that failed since the last plan.
    """

    stages: list[StageStatus] = field(default_factory=list)
    videos: int = 0
    finished: int = 0
    published: int = 0
    results: str = ""
    where: str = ""
    has_other_settings: bool = False
    has_other_next: bool = False
    not_indexed: int = 0
    lost: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    is_running: bool = False
    failures: list[tuple[str, str]] = field(default_factory=list)


def status(settings: Settings, folder: Path, results: str = "results") -> Status:
    """Compare a collection with the cache and the results of the last run.

    Nothing is computed or written.

    Args:
        settings: of the run.
        folder: working folder, where Snakemake runs.
        results: folder of the products, below it.

    Raises:
        PvioError: when the settings lead to no collection or no model.
    """
    state = current_state(settings, folder / results)
    found = Status(videos=len(state.videos) + len(state.new))
    states, errors = _states(state, settings)
    found.stages = _stages(state, settings, states, errors)
    missing = {
        segment.video
        for segment, each in zip(state.cut, states, strict=True)
        if not all(each.is_finished(stage) for stage in settings.output.stages)
    }
    finished = [
        video
        for number, video in enumerate(state.videos)
        if video.status == "ok" and number not in missing and number not in errors
    ]
    _look_at_results(found, folder / results, settings, state.model, finished)
    last = _LastRun.read(folder / results)
    changed = last.changes(settings, state.model) if last else []
    products = read_products(folder / results)
    for number, video in enumerate(state.videos):
        if video.status != "ok":
            found.unreadable.append((video.path, video.reason))
        elif number in missing or number in errors:
            try:
                reasons = [errors[number]] if number in errors else _reasons(video, last, changed)
                failed = products.get(predictions_file(video.name), {}).get("failure")
                if failed and reasons == [_LOST]:
                    reasons = [f"it failed in the last run: {failed}"]
            except Exception as error:
                reasons = [reason_for_video(error, video.path, "comparing", settings.cache)]
            for reason in reasons:
                found.reasons.setdefault(reason, []).append(video.path)
    _look_at_new(found, state, last)
    if last is not None:
        present = {video.path for video in state.videos} | set(state.new)
        found.removed = [path for path in last.digests if path not in present]
    found.lost = sorted(
        name
        for name, product in products.items()
        if "failure" not in product and not (folder / results / name).is_file()
    )
    found.is_running = any((folder / SNAKEMAKE_LOCKS).glob("*.lock"))
    found.failures = _failures(folder)
    return found


def _look_at_new(found: Status, state: State, last: _LastRun | None) -> None:
    """Note the reasons why videos are not indexed yet."""
    for path in state.new:
        if last is not None and path in last.unreadable:
            found.unreadable.append((path, last.unreadable[path]))
            continue
        found.not_indexed += 1
        known = last is not None and path in last.digests
        reason = "its file changed" if known else "new"
        found.reasons.setdefault(reason, []).append(path)


def _look_at_results(
    found: Status, results: Path, settings: Settings, model: str, finished: list[ProbedVideo]
) -> None:
    """Note how many finished videos have results, and where."""
    run, newer = made_with(settings, model), next_folder(results)
    found.finished, found.results = len(finished), results.name
    found.published = len(current_videos(results, run, finished, settings.output))
    if (where := folder_of_run(results, run)) is not None:
        found.where = where.name
    found.has_other_settings = publishing_name(results, run) != results.name
    found.has_other_next = newer.exists() and run_of(newer) != run


class _LastRun:
    """The model, settings and videos that the results were made with."""

    def __init__(self, settings: Settings, model: str, videos: list[ProbedVideo]):
        self.settings, self.model = settings, model
        self.digests = {video.path: video.digest for video in videos}
        self.unreadable = {video.path: video.reason for video in videos if video.status != "ok"}

    @classmethod
    def read(cls, results: Path) -> _LastRun | None:
        try:
            made_with = json.loads((results / RUN_FILE).read_text(encoding="utf-8"))
            videos = read_plan(results / RESULTS_PLAN_FILE).videos
            return cls(load_stored(made_with["settings"])[0], made_with["model"], videos)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, PvioError):
            return None

    def changes(self, settings: Settings, model: str) -> list[str]:
        """Changes of the settings since, as far as they concern all videos."""
        old, new = self.settings, settings
        changed = [
            f"model.{name} changed"
            for name in type(new.model).model_fields
            if not same(getattr(old.model, name), getattr(new.model, name)) and name != "device"
        ]
        if not changed and self.model != model:
            changed = ["the model's code or weights changed"]
        if old.resolved_decoder != new.resolved_decoder:
            changed.append("decoder changed")
        if old.segment_frames != new.segment_frames:
            changed.append("segment_frames changed")
        changed += [
            f"output.{name} changed"
            for name in type(new.output).model_fields
            if getattr(old.output, name) != getattr(new.output, name)
        ]
        return changed


def _reasons(video: ProbedVideo, last: _LastRun | None, changed: Sequence[str]) -> list[str]:
    if last is None:
        return ["not computed yet"]
    if video.path not in last.digests:
        return ["new"]
    if last.digests[video.path] != video.digest:
        return ["its content changed"]
    return list(changed) or [_LOST]


def _states(state: State, settings: Settings) -> tuple[list[SegmentState], dict[int, str]]:
    """For every segment which stages are finished, and by video why that could not be found out."""
    completion = Completion(
        ResultKeys(settings, state.model), Cache(settings.cache), settings.decoder_timeout
    )
    found = completion.states([(state.videos[each.video], each) for each in state.cut])
    pairs = zip(state.cut, found, strict=True)
    return found, {segment.video: each.reason for segment, each in pairs if each.reason}


def _stages(
    state: State,
    settings: Settings,
    states: list[SegmentState],
    errors: dict[int, str],
) -> list[StageStatus]:
    """Sums over the collection; errors of a video are added to `errors`."""
    costs = CostModel.load(settings.cache)
    workloads = stage_workloads(settings, state.model)
    found = []
    now = time.time()
    for stage in settings.output.stages:
        each = StageStatus(stage)
        recent: Counter[str] = Counter()
        first = now
        for segment, known in zip(state.cut, states, strict=True):
            each.segments += 1
            each.frames += segment.n_frames
            at = known.finished_at[stage]
            if at is None:
                video = state.videos[segment.video]
                arguments = (workloads[stage], video, segment.n_frames, segment.start == 0)
                try:
                    each.seconds_left += costs.seconds(*arguments)
                except Exception as error:
                    errors[segment.video] = reason_for_video(
                        error, video.path, "predicting", settings.cache
                    )
                continue
            each.segments_done += 1
            each.frames_done += segment.n_frames
            if now - at < _RECENT_SECONDS:
                recent["frames"] += segment.n_frames
                first = min(first, at)
        # Counting begins with the first of these; its own frames were finished before.
        if recent["frames"] and now - first > 1:
            each.rate = recent["frames"] / (now - first)
        found.append(each)
    return found


def _failures(folder: Path) -> list[tuple[str, str]]:
    """Logs of jobs that ended with an error since the plan was made."""
    try:
        since = (folder / PLAN_FILE).stat().st_mtime
    except OSError:
        since = 0.0
    logs = folder / LOGS_FOLDER
    return [(path.relative_to(folder).as_posix(), error) for path, error in errors_of(logs, since)]


def as_json(found: Status) -> dict[str, Any]:
    """A status as JSON values."""
    return {**vars(found), "stages": [vars(stage) for stage in found.stages]}
