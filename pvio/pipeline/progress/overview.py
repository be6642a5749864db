"""The sums over all jobs of a run, and the time that is left."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pvio.layout import (
    PROGRESS_FOLDER,
    RESOURCES_FILE,
    RESULTS_FOLDER,
    SHARDS_FOLDER,
    STAGES,
    Stage,
    receipt_file,
)
from pvio.pipeline.planning.resources import read_collection_size, read_resources
from pvio.pipeline.progress.files import JobProgress, read_progress

# Before a stage has worked this long, its speed is not known.
_LEAST_SECONDS = 3.0
# The rate that is shown is the one of the last minute.
_RATE_SECONDS = 60.0


@dataclass
class StageOverview:
    """All jobs of a stage.

    Attributes:
        done, total: frames of this run.
        seconds_done, seconds_total: predicted seconds of the work that is done, and of all of it.
        jobs: number of jobs.
        has_begun: whether a job of this run has noted anything.
        is_measured: whether the predictions come from measurements of this work.
    """

    done: int = 0
    total: int = 0
    seconds_done: float = 0.0
    seconds_total: float = 0.0
    jobs: int = 0
    has_begun: bool = False
    is_measured: bool = True


@dataclass
class Overview:
    """A run so far.

    Attributes:
        stages: those that the settings need, in their order.
        videos: readable videos of the collection.
        unreadable: the other ones.
        finished: videos that are finished.
        finished_before: of these, those that were finished before this run.
        failed: videos with a segment that failed.
        where: folder in which finished videos appear.
        has_old_plan: whether the plan is one of an earlier run, which this run continues.
    """

    stages: dict[Stage, StageOverview] = field(default_factory=dict)
    videos: int = 0
    unreadable: int = 0
    finished: int = 0
    finished_before: int = 0
    failed: int = 0
    where: str = "results"
    has_old_plan: bool = False

    @property
    def current(self) -> Stage | None:
        """The stage at work: the last one that has begun."""
        begun = [stage for stage, each in self.stages.items() if each.has_begun]
        return begun[-1] if begun else None


class OverviewReader:
    """Reads the notes of all jobs; only files that changed are read again.

    A run that continues an earlier one may keep its plan. Then the plan does not know what the
    earlier run has finished; the products that are there when this run starts do.

    Args:
        folder: working folder of the run.
        since: seconds since 1970 by the clock of its file system; older notes are of earlier runs.
        where: name of the folder with the products of the last plan.
        products: their names, when this run starts.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        since: float,
        where: str = RESULTS_FOLDER,
        products: Iterable[str] = (),
    ):
        self._folder, self._since, self._where = Path(folder), since, where
        self._n_products = Counter(name.partition("/")[0] for name in products)
        self._notes: dict[Path, tuple[int, JobProgress]] = {}

    def read(self) -> Overview | None:
        """The sums; None before this run has a plan."""
        shards = self._folder / SHARDS_FOLDER
        try:
            resources = read_resources(str(shards))
            size = read_collection_size(str(shards))
        except OSError:
            return None
        is_new = (shards / RESOURCES_FILE).stat().st_mtime >= self._since
        if not is_new:
            kind = "videos" if "encode" in resources else "predictions"
            finished = min(self._n_products[kind], size.videos)
            size = replace(size, finished=finished, where=self._where)
        found = Overview(
            videos=size.videos,
            unreadable=size.unreadable,
            finished=size.finished,
            finished_before=size.finished,
            where=size.where,
            has_old_plan=not is_new,
        )
        for stage in STAGES:
            if stage in resources:
                found.stages[stage] = each = StageOverview(jobs=len(resources[stage]))
                for k, job in enumerate(resources[stage], 1):
                    shard = f"{k}-of-{each.jobs}"
                    note = self._note(stage, shard)
                    each.is_measured &= job.is_measured
                    if note is None and not is_new and self._has_receipt(stage, shard):
                        continue  # nothing to do, or what there is to do is not known yet
                    frames = job.frames if note is None else note.total
                    seconds = job.seconds * (frames / job.frames if job.frames else 1.0)
                    each.total += frames
                    each.seconds_total += seconds
                    if note is not None:
                        each.has_begun = True
                        each.seconds_done += seconds * (note.done / frames if frames else 1.0)
                        each.done += note.done
                        found.failed += note.failed
                        found.finished += note.published if stage == [*resources][-1] else 0
        return found if is_new or found.current is not None else None

    def _has_receipt(self, stage: Stage, shard: str) -> bool:
        return (self._folder / receipt_file(stage, shard)).exists()

    def _note(self, stage: Stage, shard: str) -> JobProgress | None:
        path = self._folder / PROGRESS_FOLDER / stage / f"{shard}.json"
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return None
        if changed < self._since * 1e9:
            return None
        known = self._notes.get(path)
        if known is None or known[0] != changed:
            if (note := read_progress(path)) is None:
                return None if known is None else known[1]
            known = self._notes[path] = (changed, note)
        return known[1]


class Forecast:
    """The time that is left, from the speed so far.

    Speed is predicted seconds of work per second. A stage that has not begun is expected to be as
    fast as the stage before, if its predictions come from measurements.
    """

    def __init__(self) -> None:
        self._began: dict[Stage, tuple[float, float]] = {}
        self._recent: dict[Stage, list[tuple[float, int]]] = {}

    def update(self, now: float, found: Overview) -> None:
        """Note the state at a time, in seconds of any clock."""
        for stage, each in found.stages.items():
            if each.done:  # the start of the jobs does not count
                self._began.setdefault(stage, (now, each.seconds_done))
                recent = self._recent.setdefault(stage, [])
                recent.append((now, each.done))
                while len(recent) > 2 and now - recent[1][0] > _RATE_SECONDS:
                    del recent[0]

    def rate(self, stage: Stage) -> float:
        """Frames per second of a stage in the last minute; 0 if not known."""
        recent = self._recent.get(stage, [])
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        return max(0, recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def seconds_left(self, now: float, found: Overview) -> tuple[float, Stage | None] | None:
        """Seconds until the last stage ends; None if not known yet.

        Returns:
            The seconds, and the stage at whose end they end if a later one cannot be predicted.
        """
        left, speed, last, are_measured = 0.0, 0.0, None, True
        for stage, each in found.stages.items():
            are_measured &= each.is_measured
            if last is not None and not are_measured and stage not in self._began:
                return (left, last) if left and not each.has_begun else None
            last = stage
            began, done_before = self._began.get(stage, (now, 0.0))
            seconds, work = now - began, each.seconds_done - done_before
            if seconds >= _LEAST_SECONDS and work > 0:
                speed = work / seconds
            remaining = each.seconds_total - each.seconds_done
            if remaining > 0 and not speed:
                return None
            left += remaining / speed if remaining > 0 else 0.0
        return left, None
