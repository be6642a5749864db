"""Progress of a job: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pvio.pipeline.jobs.supervisor import Outcome
from pvio.pipeline.planning.manifest import ShardPlan
from pvio.pipeline.progress.files import JobProgress, ProgressFile, VideoStates

SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} {self._unit}/s", style="progress.data.speed")


class ProgressReport:
    """Reports progress on stderr while it is open.

    Args:
        label: of the task in progress.
        total: number of units.
        unit: plural of what is counted.
        file: shows other processes how far the job is.

    Attributes:
        done: number of units that are done.
        n_published, n_failed: videos; to be set by the job.
    """

    def __init__(
        self, label: str, total: int, unit: str = "frames", file: ProgressFile | None = None
    ):
        self.label, self.total, self.unit = label, total, unit
        self.done = self.n_published = self.n_failed = 0
        self._file = file or ProgressFile(None)
        self._began = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                _Rate(unit),
                TimeRemainingColumn(),
                console=None,
                transient=False,
            )

    def __enter__(self) -> ProgressReport:
        self.note(at_once=True)
        if self._bar is not None:
            from rich.console import Console

            self._bar.live.console = Console(stderr=True)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.note(at_once=True)
        if self._bar is not None:
            self._bar.stop()
        elif self.total:
            self._print_line()

    def advance(self, n: int) -> None:
        """Count `n` more units as done."""
        self.done += n
        self.note()
        if self._bar is not None:
            self._bar.update(self._task, advance=n)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def note(self, *, at_once: bool = False) -> None:
        """Write the file, see `ProgressFile.write`."""
        state = JobProgress(self.done, self.total, self.n_published, self.n_failed)
        self._file.write(state, at_once=at_once)

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        rate = self.done / max(1e-9, self._last_line - self._began)
        left = (self.total - self.done) / rate if rate else float("inf")
        shown = f"{left:.0f} s left" if left < float("inf") else "time left unknown"
        print(
            f"{self.label}: {self.done}/{self.total} {self.unit}, "
            f"{rate:.0f} {self.unit}/s, {shown}",
            file=sys.stderr,
            flush=True,
        )


class VideoPublisher(Protocol):
    """Puts the products of finished videos where users see them."""

    def publish(self, number: int) -> None:
        """Begin to publish a video, by its number, unless segments of other shards are missing."""
        ...

    def published(self) -> list[int]:
        """The videos that were published since the last call; does not wait."""
        ...

    def wait(self) -> None:
        """Wait until all videos are published, or have failed."""
        ...


class VideoTracker:
    """Publishes videos whose segments in a shard are finished, and counts those that fail.

    Args:
        part: the plan of the shard.
        unfinished: numbers of the segments that are not finished.
        publisher: see `run_shard`.
        progress: counts the videos.
        states: shows other processes what happens to each video.

    Attributes:
        outcomes: of the segments so far, by their number.
    """

    def __init__(
        self,
        part: ShardPlan,
        unfinished: Iterable[int],
        publisher: VideoPublisher | None,
        progress: ProgressReport,
        states: VideoStates,
    ):
        self._part, self._publisher, self._progress = part, publisher, progress
        self._states = states
        self.outcomes: dict[int, Outcome] = {}
        self._unfinished = Counter(part.segments[number].video for number in unfinished)
        self._finished_before = set(part.videos) - set(self._unfinished)
        self._failed: set[int] = set()
        for video in self._finished_before:
            self._publish(video)

    def add(self, outcome: Outcome) -> None:
        """Take note of a segment that is done or has failed."""
        self.outcomes[outcome.task] = outcome
        video = self._part.segments[outcome.task].video
        if outcome.kind in ("done", "found"):
            self._unfinished[video] -= 1
            if not self._unfinished[video]:
                self._publish(video)
        elif outcome.kind in ("failed", "unreadable"):
            self._states.note(video, outcome.kind, outcome.value)
        if outcome.kind == "failed":
            self._failed.add(video)
            self._progress.n_failed = len(self._failed)
        self._note()

    def wait(self) -> None:
        """Wait until all finished videos are published."""
        if self._publisher is not None:
            self._publisher.wait()
        self._note()

    def _publish(self, video: int) -> None:
        if self._publisher is not None:
            self._publisher.publish(video)

    def _note(self) -> None:
        if self._publisher is not None:
            published = set(self._publisher.published())
            # The plan has counted the others.
            self._progress.n_published += len(published - self._finished_before)
        self._progress.note()
