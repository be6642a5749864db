"""Shared by infer and encode jobs: compute unfinished segments, and survive failures."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pvio.cache.lookup import map_in_threads
from pvio.collection.image_names import is_sequence
from pvio.concurrency.child_process import OUT_OF_MEMORY
from pvio.config.settings import Settings
from pvio.errors import (
    JobError,
    LostEntry,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
    breaks_cuda,
    memory_advice,
    no_space,
)
from pvio.layout import Kind
from pvio.media.index.frame_index import FrameIndex
from pvio.pipeline.guard import concerns_all, describe
from pvio.pipeline.jobs.failure_watch import FailureWatch, segment_name, without_numbers
from pvio.pipeline.jobs.progress import ProgressReport, VideoPublisher, VideoTracker
from pvio.pipeline.jobs.staging import Stager, staging_folder
from pvio.pipeline.jobs.supervisor import Outcome, run_supervised
from pvio.pipeline.planning.completion import Completion, Metadata
from pvio.pipeline.planning.keys import CacheEntry
from pvio.pipeline.planning.manifest import PlannedSegment, Receipt, SegmentReceipt, ShardPlan
from pvio.pipeline.planning.probed_video import check_unchanged, index_of
from pvio.pipeline.progress.files import VideoStates, progress_file, video_states

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A segment to be computed.

    Attributes:
        segment: of the plan.
        index: of its video.
        entries: of the cache, which are to be committed in this order.
        progress: to be called with the number of frames done since the last call.
        isolated: whether its video is decoded in a subprocess: the process crashed at it before.
        check_source: to be called when all is computed, before it is committed; raises when the
            video has changed.
    """

    segment: PlannedSegment
    index: FrameIndex
    entries: tuple[CacheEntry, ...]
    progress: Callable[[int], None]
    isolated: bool
    check_source: Callable[[], None]

    @property
    def span(self) -> tuple[int, int]:
        """First frame of the segment, and the one after its last."""
        return self.segment.start, self.segment.stop


# Characters of a reason: a message of CUDA may be long, and ends with the free memory.
_LONGEST_FAILURE = 1000
# After this many segments of a video have failed, and none succeeded, its others are not tried.
_ENOUGH_OF_A_VIDEO = 3


# Metadata of the entries of a segment, and when they were written.
_Finished = tuple[list[Metadata], float]
# Computes a segment and commits its entries; is pickled, before its first call, where the system
# cannot fork.
Compute = Callable[[Task], None]


def run_shard(
    part: ShardPlan,
    completion: Completion,
    settings: Settings,
    compute: Compute,
    failed: Mapping[int, str] | None = None,
    publisher: VideoPublisher | None = None,
    planned_at: float = float("inf"),
) -> Receipt:
    """Compute the segments of a shard that are not finished, in a child process.

    A segment that fails is noted in the log and the receipt, and the job continues with the others.
    So is one that crashes the process twice, or whose video can no longer be read. If every video
    fails alike, the job ends, see `FailureWatch`.

    Args:
        part: the plan of the shard.
        completion: knows which segments are finished.
        settings: `staging_dir` matters.
        compute: commits a segment's entries. The metadata of the last entry are `seconds`,
            `skipped_reason`, `timeout`, and for overlays `rows`, the digest of each predictions
            entry by key.
        failed: segments that are not tried, since their inputs have failed, with the reasons.
        publisher: publishes each video when its segments in this shard are finished.
        planned_at: seconds since 1970; segments finished later are new, see `SegmentReceipt`.

    Raises:
        FailedSegments: when every video fails alike.
        JobError: when the job cannot begin, as when its model cannot be loaded.
        NoSpaceLeft: as soon as the disk is full.
        LostEntry: when an entry of an earlier stage is lost.
    """
    began, failed = time.perf_counter(), failed or {}
    stage, shard, numbers = part.stage, part.shard, part.segment_numbers
    known = map_in_threads(partial(_finished, part, completion), numbers)
    finished = dict(zip(numbers, known, strict=True))
    todo = [n for n in numbers if finished[n] is None and n not in failed]
    total = sum(part.segments[n].stop - part.segments[n].start for n in todo)
    text = "%s %s: %d segment(s), %d finished before, %d to do (%d frames)"
    logger.info(text, stage, shard, len(numbers), len(numbers) - len(todo), len(todo), total)
    watch = FailureWatch(part, len(todo) < len(numbers) - len(failed))
    with (
        staging_folder(settings.staging_dir if todo else None) as folder,
        ProgressReport(f"{stage} {shard}", total, file=progress_file(stage, shard)) as progress,
    ):
        states = video_states(stage, shard)
        task = SegmentTask(part, completion, Stager(folder), compute, states)
        videos = VideoTracker(part, (*todo, *failed), publisher, progress, states)
        with contextlib.closing(_work_through(task, todo, part, watch, progress)) as done:
            for outcome in done:
                videos.add(outcome)
        videos.wait()
    outcomes, kinds = videos.outcomes, completion.keys.output.kinds_of(stage)
    _check_sources_reachable(part, outcomes)
    receipts = [
        _receipt(n, kinds, finished[n], planned_at, outcomes.get(n), failed.get(n)) for n in numbers
    ]
    if n := sum(bool(each.failure_reason) for each in receipts):
        logger.warning("%d of %d segments of %s %s failed", n, len(numbers), stage, shard)
    return Receipt(stage, shard, round(time.perf_counter() - began, 3), receipts)


def _work_through(
    task: SegmentTask,
    todo: list[int],
    part: ShardPlan,
    watch: FailureWatch,
    progress: ProgressReport,
) -> Generator[Outcome]:
    """The outcome of each segment; raises errors that concern the whole job."""
    while todo:
        supervision = run_supervised(
            task,
            todo,
            progress.advance,
            task.temporaries,
            lambda number: part.segments[number].video,
        )
        with contextlib.closing(supervision) as done:
            for outcome in done:
                todo.remove(outcome.task)
                task.note(outcome)
                _log_or_raise(outcome, segment_name(part, outcome.task))
                watch.add(outcome)
                yield outcome
                if scouts := watch.scouts(todo):
                    todo = [*scouts, *(n for n in todo if n not in scouts)]
                    break


def _finished(part: ShardPlan, completion: Completion, number: int) -> _Finished | None:
    segment = part.segments[number]
    return completion.finished_at(part.stage, part.videos[segment.video], segment)


def _log_or_raise(outcome: Outcome, name: str) -> None:
    """Log the outcome of a segment; raise errors that concern the whole job."""
    if outcome.kind == "done":
        logger.info("%s: done in %.1f s", name, outcome.value[-1]["seconds"]["total"])
    elif outcome.kind == "full":
        raise NoSpaceLeft(outcome.value)
    elif outcome.kind == "lost":
        raise LostEntry(*outcome.value)
    elif outcome.kind == "stop":
        raise JobError(outcome.value)
    elif outcome.kind == "failed":
        logger.error("%s failed: %s", name, outcome.value)


def _check_sources_reachable(part: ShardPlan, outcomes: dict[int, Outcome]) -> None:
    """Check that the videos of a job still exist.

    A single missing video is reported in the results. A missing disk must not empty the results.

    Raises:
        UnreadableVideo: when most of the videos of the outcomes are missing.
    """
    videos = {part.segments[task].video for task in outcomes}
    paths = {video: part.videos[video].path for video in videos}
    missing = [
        video
        for video in videos
        if not os.path.exists(path := paths[video]) and not is_sequence(path)
    ]
    if len(missing) > 1 and 2 * len(missing) > len(videos):
        raise UnreadableVideo(
            part.videos[missing[0]].path,
            f"file not found; {len(missing)} of this job's {len(videos)} videos are missing. Check "
            "that their disk is mounted, then run the same command again",
        )


def _receipt(
    number: int,
    kinds: tuple[Kind, ...],
    finished: _Finished | None,
    planned_at: float,
    outcome: Outcome | None,
    failure: str | None,
) -> SegmentReceipt:
    if failure is not None and finished is None:
        return SegmentReceipt(number, {}, False, failure_reason=failure, failed=True)
    if outcome is not None and outcome.kind in ("unreadable", "failed"):
        is_failed = outcome.kind == "failed"
        return SegmentReceipt(number, {}, False, failure_reason=outcome.value, failed=is_failed)
    found, finished_at = finished or ([], 0.0)
    found = outcome.value if outcome is not None else found
    computed = outcome is not None and outcome.kind == "done"
    is_new = computed or (outcome is None and finished_at >= planned_at)
    return SegmentReceipt.of_entries(number, kinds, found, computed=computed, is_new=is_new)


class SegmentTask:
    """Computes a segment, and describes failures.

    Args:
        part, completion, compute: see `run_shard`.
        staging: makes copies of the videos.
        states: shows other processes at which video it is.

    Attributes:
        temporaries: folder of its temporary files.
    """

    def __init__(
        self,
        part: ShardPlan,
        completion: Completion,
        staging: Stager,
        compute: Compute,
        states: VideoStates | None = None,
    ):
        self._part, self._completion = part, completion
        self._states = states or VideoStates(None)
        self._staging, self._compute = staging, compute
        self.temporaries = completion.cache.temporaries
        # By video, since its last finished segment.
        self._failed: Counter[int] = Counter()
        self._last: dict[int, str] = {}
        self._logged: set[str] = set()

    def __call__(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        """See `Work`."""
        video = self._part.segments[task].video
        self._states.note(video, "running")
        if self._failed[video] >= _ENOUGH_OF_A_VIDEO:
            return Outcome(task, "failed", self._last[video])
        outcome = self._tried(task, isolated, progress)
        if outcome.kind == "failed":
            self._failed[video] += 1
            self._last[video] = outcome.value
        else:
            self._failed[video] = 0
        return outcome

    def note(self, outcome: Outcome) -> None:
        """Take note of an outcome: further processes must not log its traceback again."""
        if outcome.kind == "failed":
            self._logged.add(without_numbers(str(outcome.value)))

    def _tried(self, task: int, isolated: bool, progress: Callable[[int], None]) -> Outcome:
        segment, cache = self._part.segments[task], self._completion.cache
        video, name = self._part.videos[segment.video], segment_name(self._part, task)
        try:
            # Another run that shares the cache may have computed it since this job began.
            found = _finished(self._part, self._completion, task)
            if found is not None:
                progress(segment.stop - segment.start)
                return Outcome(task, "found", found[0])
            check_source = partial(check_unchanged, video, cache)
            check_source()
            index = index_of(video, cache, self._completion.decoder_timeout)
            entries = self._completion.keys.produced_by(self._part.stage, video, segment)
            staged = self._staging.stage(index)
            try:
                self._compute(Task(segment, staged, entries, progress, isolated, check_source))
            except UnreadableVideo as error:
                if not staged.staged_path:
                    raise
                # An error of the node's disk is no error of the video.
                logger.warning(
                    "%s: %s; the video is read from its original location",
                    staged.staged_path,
                    error.reason,
                )
                self._compute(Task(segment, index, entries, progress, isolated, check_source))
            return Outcome(task, "done", [cache.metadata(*entry) for entry in entries])
        except UnreadableVideo as error:
            # Reported as if the video could not be read at the start.
            logger.warning("%s: %s", name, error)
            return Outcome(task, "unreadable", error.reason)
        except LostEntry as error:
            return Outcome(task, "lost", (str(error), error.kind))
        except (Exception, SystemExit) as error:
            if no_space(error):
                return Outcome(task, "full", no_space(error))
            text = describe(error, longest=_LONGEST_FAILURE)
            self._log(name, text, error)
            advice = memory_advice(text)
            if advice and not isolated:  # a new process starts with all memory
                logging.shutdown()
                os._exit(OUT_OF_MEMORY)
            stops = isinstance(error, JobError) or (
                isinstance(error, Exception) and concerns_all(error, cache.root)
            )
            kind: Literal["stop", "failed"] = "stop" if stops else "failed"
            return Outcome(task, kind, text + advice, ends_process=breaks_cuda(text))

    def _log(self, name: str, text: str, error: BaseException) -> None:
        """Log the traceback of an error that is the first of its kind; the job logs each error."""
        cause = error.__cause__ if isinstance(error, PvioError) else error
        if cause is not None and without_numbers(text) not in self._logged:
            self._logged.add(without_numbers(text))
            logger.error("%s: %s", name, text, exc_info=cause)
