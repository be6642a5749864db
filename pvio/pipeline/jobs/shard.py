"""What infer and encode jobs share: work through a shard, skip what is done, survive failures."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pvio.cache.lookup import look_up
from pvio.cache.store import Kind, Store, StoreError
from pvio.collection.image_names import is_sequence
from pvio.collection.sources import Source
from pvio.config.settings import Settings
from pvio.errors import (
    FailedSegments,
    JobError,
    LostEntry,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
    memory_advice,
    no_space,
)
from pvio.media.index.cached import cached_index_metadata, index_key
from pvio.media.index.content import content_digest
from pvio.media.index.frame_index import FrameIndex
from pvio.pipeline.guard import concerns_all, describe
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.jobs.staging import Staging, stage_folder
from pvio.pipeline.jobs.supervisor import OUT_OF_MEMORY, Outcome, supervised
from pvio.pipeline.planning.manifest import (
    Part,
    PlannedSegment,
    ProbedVideo,
    Receipt,
    SegmentReceipt,
)
from pvio.pipeline.stages.plan import stored_index

log = logging.getLogger(__name__)

Entry = tuple[Kind, str]
Facts = dict[str, Any]


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
# Videos that fail alike, one after the other, before a job looks at others.
_ENOUGH_FAILURES = 3
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
    Where every video fails alike, the job ends, see `_FailureWatch`.
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
    finished = _finished(store, entries, patience)
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
    watch = _FailureWatch(part, len(todo) < len(numbers) - len(failed))
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
                    _look_at(outcome, _name_of(part, outcome.task))
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


class _FailureWatch:
    """Ends a job in which every video fails alike: a slip in a model must not run through them all.

    When the first three videos fail alike, and no segment is finished, three others are tried next,
    spread over those that remain: videos side by side may be of one kind, which costs these alone.
    When they fail alike, too, the job ends.

    Args:
        part: of the shard.
        has_results: whether segments of the shard were finished before.
    """

    def __init__(self, part: Part, has_results: bool):
        self._part = part
        self._is_over = has_results
        self._reason = ""
        self._names: dict[int, str] = {}  # of the first failed segment of each video
        self._scouts: list[int] = []

    def add(self, outcome: Outcome) -> None:
        """Take note of a segment.

        Raises:
            FailedSegments: when the job is not worth going on.
        """
        if self._is_over or outcome.kind not in ("done", "found", "failed"):
            return
        self._reason = self._reason or str(outcome.value)
        alike = _without_numbers(str(outcome.value)) == _without_numbers(self._reason)
        if outcome.kind != "failed" or not alike:
            self._is_over = True
            return
        video = self._part.segments[outcome.task].video
        self._names.setdefault(video, _name_of(self._part, outcome.task))
        if self._scouts and all(
            self._part.segments[number].video in self._names for number in self._scouts
        ):
            names = list(self._names.values())
            raise FailedSegments(
                f"{self._part.stage} {self._part.shard} ends, since all of the first {len(names)} "
                f"videos fail alike: {names[0]} and {len(names) - 1} more: {self._reason}\n"
                "Fix the cause and run the same command again"
            )

    def scouts(self, todo: list[int]) -> list[int]:
        """Segments of `todo` to try next, when those before make the job doubtful; mostly none."""
        if self._is_over or self._scouts or len(self._names) < _ENOUGH_FAILURES:
            return []
        others: dict[int, int] = {}
        for number in todo:
            others.setdefault(self._part.segments[number].video, number)
        untried = [number for video, number in others.items() if video not in self._names]
        n = min(_ENOUGH_FAILURES, len(untried))
        self._scouts = [untried[(2 * i + 1) * len(untried) // (2 * n)] for i in range(n)]
        return self._scouts


def _without_numbers(text: str) -> str:
    """A reason without what differs from segment to segment: frames and sizes."""
    return re.sub(r"\d+", "#", text)


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


def _name_of(part: Part, number: int) -> str:
    segment = part.segments[number]
    return f"{part.videos[segment.video].name} frames {segment.start} to {segment.stop - 1}"


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
        video, name = self._part.videos[segment.video], _name_of(self._part, task)
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
                if not staged.staged_path:
                    raise
                # A disk of the node that fails is no fault of the video's.
                log.warning(
                    "%s: %s; the video is read where it is", staged.staged_path, error.reason
                )
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
        is_new = _without_numbers(text) not in self._logged
        self._logged.add(_without_numbers(text))
        log.error("%s: %s", name, text, exc_info=cause if is_new else None)


def read_entry(store: Store, kind: Kind, key: str) -> tuple[bytes, Facts]:
    """Payload and facts of an entry that an earlier stage committed.

    Raises:
        LostEntry: when it is lost or damaged; a damaged one is removed.
    """
    store.comes(kind, key)
    try:
        return store.read(kind, key)
    except StoreError as error:
        store.discard(kind, key)
        raise LostEntry(str(error), kind) from error


def check_unchanged(video: ProbedVideo, store: Store) -> None:
    """Check that a video still is the one that was probed.

    Raises:
        UnreadableVideo: when it is not, or is gone.
    """
    source = Source(video.path, video.name, video.is_image_folder)
    changed = "it changed during the run; run the workflow again"
    try:
        key, facts = cached_index_metadata(source, store)
        content = facts["content"]
    except StoreError:
        key, content = index_key(source), content_digest(source)
    if (key, content) != (video.index_key, video.digest):
        raise UnreadableVideo(video.path, changed)


def _finished(
    store: Store, entries: list[tuple[Entry, ...]], patience: float
) -> list[list[Facts] | None]:
    """`finished_entries` of every segment."""
    return look_up(lambda wanted: finished_entries(store, wanted, patience), entries)


def finished_entries(
    store: Store, wanted: tuple[Entry, ...], patience: float
) -> list[Facts] | None:
    """The facts of the entries of a segment; None when it is to be computed."""
    if not all(store.has(kind, key) for kind, key in wanted):
        return None
    try:
        facts = [store.info(*entry) for entry in wanted]
        is_current = all(
            store.info("predictions", key)["digest"] == digest
            for key, digest in facts[-1].get("rows", {}).items()
        )
        may_do_better = facts[-1]["given_up"] and facts[-1]["patience"] < patience
        is_complete = "total" in facts[-1]["seconds"]
    except StoreError as error:
        log.warning("%s; it is computed again", error)
        return None
    except Exception as error:  # written by another version
        if concerns_all(error, store.root):
            raise
        log.warning("an entry cannot be understood (%r); it is computed again", error)
        return None
    return facts if is_current and is_complete and not may_do_better else None
