"""What infer and encode jobs share: work through a shard, skip what is done, survive failures."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pvio.cache.store import Store
from pvio.collection.image_names import is_sequence
from pvio.config.settings import Settings
from pvio.errors import (
    JobError,
    LostEntry,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
    memory_advice,
    no_space,
)
from pvio.media.index.frame_index import FrameIndex
from pvio.pipeline.guard import concerns_all, describe
from pvio.pipeline.jobs.failure_watch import FailureWatch, segment_name, without_numbers
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.jobs.staging import Staging, stage_folder
from pvio.pipeline.jobs.supervisor import OUT_OF_MEMORY, Outcome, supervised
from pvio.pipeline.planning.completion import Entry, Facts, finished_entries, finished_in_store
from pvio.pipeline.planning.manifest import (
    Part,
    PlannedSegment,
    Receipt,
    SegmentReceipt,
)
from pvio.pipeline.planning.probed_video import check_unchanged, stored_index

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A segment to be computed.

    Attributes:
        segment: of the plan.
        index: of its video.
        wanted: its entries, which are to be committed.
        progress: to be called with the number of frames done since the last call.
        careful: whether the process died at it before: its video is decoded in a sub-process.
        unchanged: to be called when all is computed, before it is committed; raises when the video
            is another one by now.
    """

    segment: PlannedSegment
    index: FrameIndex
    wanted: tuple[Entry, ...]
    progress: Callable[[int], None]
    careful: bool
    unchanged: Callable[[], None]

    @property
    def span(self) -> tuple[int, int]:
        return self.segment.start, self.segment.stop


# Characters of a reason: a message of CUDA's may be long, and in the end says how much is left.
_LONGEST_FAILURE = 1000
# Segments of a video that fail, and none that succeeds, before its others are not tried.
_ENOUGH_OF_A_VIDEO = 3

# Computes a segment and commits its entries; is pickled, before its first call, where the system
# cannot fork.
Compute = Callable[[Task], None]


def work_through(
    part: Part,
    entries: list[tuple[Entry, ...]],
    store: Store,
    settings: Settings,
    compute: Compute,
    failed: Mapping[int, str] | None = None,
) -> Receipt:
    """Compute the segments of a shard that are not in the store, in a child process.

    A segment that fails is logged with its traceback and noted in the receipt, and the others go
    on. So it is when the process dies at a segment twice, and when its video can no longer be read.
    Where every video fails alike, the job ends, see `FailureWatch`.
    One of which frames were given up is computed again only with more patience, and one that was
    drawn from other rows than those in the store, with these.

    Args:
        part: of the shard.
        entries: the entries of the store that each segment must have, the last one committed last.
        store: where finished segments are.
        settings: `decoder_timeout` and `stage` matter.
        compute: commits a segment's entries. The facts of the last one are `seconds`, `given_up`,
            `patience`, and for what is drawn `rows`, the digest of each predictions entry by key.
        failed: segments that need not be tried, since what they need has failed, and why.

    Raises:
        FailedSegments: when every video fails alike.
        JobError: when the job cannot begin, as when its model cannot be loaded.
        NoSpaceLeft: as soon as the disk is full.
        LostEntry: when an entry of an earlier stage is lost.
    """
    began, patience, failed = time.perf_counter(), settings.decoder_timeout, failed or {}
    stage, shard, numbers = part.stage, part.shard, part.numbers
    finished = finished_in_store(store, entries, patience)
    todo = [
        n for n, facts in zip(numbers, finished, strict=True) if facts is None and n not in failed
    ]
    total = sum(part.segments[n].stop - part.segments[n].start for n in todo)
    log.info(
        "%s %s: %d segment(s), %d finished before, %d to do (%d frames)",
        stage, shard, len(numbers), len(numbers) - len(todo), len(todo), total,
    )  # fmt: skip
    wanted = dict(zip(numbers, entries, strict=True))
    lacking = {n: wanted[n] for n in todo}
    outcomes: dict[int, Outcome] = {}
    watch = FailureWatch(part, len(todo) < len(numbers) - len(failed))
    with (
        stage_folder(settings.stage if todo else None) as folder,
        ProgressReport(f"{stage} {shard}", total) as progress,
    ):
        work = _Work(part, lacking, store, patience, Staging(folder), compute)
        while todo:
            supervision = supervised(
                work,
                todo,
                progress.advance,
                store.temporaries,
                lambda number: part.segments[number].video,
            )
            with contextlib.closing(supervision) as done:
                for outcome in done:
                    outcomes[outcome.task] = outcome
                    todo.remove(outcome.task)
                    _look_at(outcome, segment_name(part, outcome.task))
                    watch.add(outcome)
                    if scouts := watch.scouts(todo):
                        todo = [*scouts, *(n for n in todo if n not in scouts)]
                        break
    _check_not_all_gone(part, outcomes)
    receipts = [
        SegmentReceipt(n, {}, False, failure=failed[n], failed=True)
        if n in failed and facts is None
        else _receipt(n, wanted[n], facts, outcomes.get(n))
        for n, facts in zip(numbers, finished, strict=True)
    ]
    n_failed = sum(bool(each.failure) for each in receipts)
    if n_failed:
        log.warning("%d of %d segments of %s %s failed", n_failed, len(numbers), stage, shard)
    return Receipt(stage, shard, round(time.perf_counter() - began, 3), receipts)


def _look_at(outcome: Outcome, name: str) -> None:
    """Log what became of a segment; raise what concerns the whole job."""
    if outcome.kind == "done":
        log.info("%s: done in %.1f s", name, outcome.value[-1]["seconds"]["total"])
    elif outcome.kind == "full":
        raise NoSpaceLeft(outcome.value)
    elif outcome.kind == "lost":
        raise LostEntry(*outcome.value)
    elif outcome.kind == "stop":
        raise JobError(outcome.value)
    elif outcome.kind == "failed":
        log.error("%s failed: %s", name, outcome.value)


def _check_not_all_gone(part: Part, outcomes: dict[int, Outcome]) -> None:
    """A single video that is gone is reported; a disk that is gone shall not empty the results.

    Raises:
        UnreadableVideo: when most of the videos of the outcomes are not there any more.
    """
    videos = {part.segments[task].video for task in outcomes}
    gone = [video for video in videos if not _is_there(part.videos[video].path)]
    if len(gone) > 1 and 2 * len(gone) > len(videos):
        raise UnreadableVideo(
            part.videos[gone[0]].path,
            f"it is gone, and so are {len(gone) - 1} more of {len(videos)} videos of this job. Is "
            "their disk there? Run the same command again when it is",
        )


def _is_there(path: str) -> bool:
    return os.path.exists(path) or is_sequence(path)


def _receipt(
    number: int, wanted: tuple[Entry, ...], finished: list[Facts] | None, outcome: Outcome | None
) -> SegmentReceipt:
    if outcome is not None and outcome.kind in ("unreadable", "failed"):
        is_failed = outcome.kind == "failed"
        return SegmentReceipt(number, {}, False, failure=outcome.value, failed=is_failed)
    facts: list[Facts] = outcome.value if outcome is not None else finished or []
    return SegmentReceipt(
        number,
        {kind: each["digest"] for (kind, _), each in zip(wanted, facts, strict=True)},
        outcome is not None and outcome.kind == "done",
        facts[-1].get("status", {}),
        facts[-1]["seconds"],
        given_up=facts[-1]["given_up"],
        not_finite=facts[-1].get("not_finite", {}),
    )


class _Work:
    """Computes a segment, and makes words of what goes wrong."""

    def __init__(
        self,
        part: Part,
        wanted: dict[int, tuple[Entry, ...]],
        store: Store,
        patience: float,
        staging: Staging,
        compute: Compute,
    ):
        self._part, self._wanted, self._store = part, wanted, store
        self._patience, self._staging, self._compute = patience, staging, compute
        # By video, since the last segment of it that was done.
        self._failed: Counter[int] = Counter()
        self._last: dict[int, str] = {}
        self._logged: set[str] = set()

    def __call__(self, task: int, careful: bool, progress: Callable[[int], None]) -> Outcome:
        """See `Work`."""
        video = self._part.segments[task].video
        if self._failed[video] >= _ENOUGH_OF_A_VIDEO:
            return Outcome(task, "failed", self._last[video])
        outcome = self._tried(task, careful, progress)
        if outcome.kind == "failed":
            self._failed[video] += 1
            self._last[video] = outcome.value
        else:
            self._failed[video] = 0
        return outcome

    def _tried(self, task: int, careful: bool, progress: Callable[[int], None]) -> Outcome:
        segment, wanted = self._part.segments[task], self._wanted[task]
        video, name = self._part.videos[segment.video], segment_name(self._part, task)
        try:
            # Another run that shares the store may have been here since this job began.
            found = finished_entries(self._store, wanted, self._patience)
            if found is not None:
                progress(segment.stop - segment.start)
                return Outcome(task, "found", found)
            unchanged = partial(check_unchanged, video, self._store)
            unchanged()
            index = stored_index(video, self._store)
            staged = self._staging.staged(index)
            try:
                self._compute(Task(segment, staged, wanted, progress, careful, unchanged))
            except UnreadableVideo as error:
                if not staged.copy:
                    raise
                # A disk of the node that fails is no fault of the video's.
                log.warning("%s: %s; the video is read where it is", staged.copy, error.reason)
                self._compute(Task(segment, index, wanted, progress, careful, unchanged))
            return Outcome(task, "done", [self._store.info(*entry) for entry in wanted])
        except UnreadableVideo as error:
            # As with a video that could not be read at the start: it is reported.
            log.warning("%s: %s", name, error)
            return Outcome(task, "unreadable", error.reason)
        except LostEntry as error:
            return Outcome(task, "lost", (str(error), error.kind))
        except (Exception, SystemExit) as error:
            if no_space(error):
                return Outcome(task, "full", no_space(error))
            text = describe(error, longest=_LONGEST_FAILURE)
            self._log(name, text, error)
            advice = memory_advice(text)
            if advice and not careful:  # a new process begins with all of it
                logging.shutdown()
                os._exit(OUT_OF_MEMORY)
            stops = isinstance(error, JobError) or (
                isinstance(error, Exception) and concerns_all(error, self._store.root)
            )
            return Outcome(task, "stop" if stops else "failed", text + advice)

    def _log(self, name: str, text: str, error: BaseException) -> None:
        """Log an error, the first of its kind with its traceback."""
        own = isinstance(error, PvioError)
        cause = error.__cause__ if own else error
        is_new = without_numbers(text) not in self._logged
        self._logged.add(without_numbers(text))
        log.error("%s: %s", name, text, exc_info=cause if is_new else None)
