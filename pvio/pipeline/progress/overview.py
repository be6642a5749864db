"""The sums over all jobs of a run, and the time that is left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pvio.layout import PROGRESS_FOLDER, RESOURCES_FILE, SHARDS_FOLDER, STAGES, Stage
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
    """

    done: int = 0
    total: int = 0
    seconds_done: float = 0.0
    seconds_total: float = 0.0
    jobs: int = 0
    has_begun: bool = False


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
    """

    stages: dict[Stage, StageOverview] = field(default_factory=dict)
    videos: int = 0
    unreadable: int = 0
    finished: int = 0
    finished_before: int = 0
    failed: int = 0
    where: str = "results"

    @property
    def current(self) -> Stage | None:
        """The stage at work: the last one that has begun."""
        begun = [stage for stage, each in self.stages.items() if each.has_begun]
        return begun[-1] if begun else None


class OverviewReader:
    """Reads the notes of all jobs; only files that changed are read again.

    Args:
        folder: working folder of the run.
        since: seconds since 1970 by the clock of its file system; older notes are of earlier runs.
    """

    def __init__(self, folder: str | os.PathLike[str], since: float):
        self._folder, self._since = Path(folder), since
        self._notes: dict[Path, tuple[int, JobProgress]] = {}

    def read(self) -> Overview | None:
        """The sums; None before this run has a plan."""
        shards = self._folder / SHARDS_FOLDER
        try:
            resources = read_resources(str(shards))
            size = read_collection_size(str(shards))
        except OSError:
            return None
        found = Overview(
            videos=size.videos,
            unreadable=size.unreadable,
            finished=size.finished,
            finished_before=size.finished,
            where=size.where,
        )
        for stage in STAGES:
            if stage in resources:
                found.stages[stage] = each = StageOverview(jobs=len(resources[stage]))
                for k, job in enumerate(resources[stage], 1):
                    note = self._note(stage, f"{k}-of-{each.jobs}")
                    share = note.done / note.total if note and note.total else float(bool(note))
                    each.has_begun |= note is not None
                    each.total += job.frames if note is None else note.total
                    each.seconds_total += job.seconds
                    each.seconds_done += share * job.seconds
                    if note is not None:
                        each.done += note.done
                        found.failed += note.failed
                        found.finished += note.published if stage == [*resources][-1] else 0
        is_new = (shards / RESOURCES_FILE).stat().st_mtime >= self._since
        return found if is_new or found.current is not None else None

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
    fast as the stage before, since its predictions come from the same measurements.
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

    def seconds_left(self, now: float, found: Overview) -> float | None:
        """Seconds until the last stage ends; None if not known yet."""
        left, speed = 0.0, 0.0
        for stage, each in found.stages.items():
            began, done_before = self._began.get(stage, (now, 0.0))
            seconds, work = now - began, each.seconds_done - done_before
            if seconds >= _LEAST_SECONDS and work > 0:
                speed = work / seconds
            remaining = each.seconds_total - each.seconds_done
            if remaining > 0 and not speed:
                return None
            left += remaining / speed if remaining > 0 else 0.0
        return left
