"""What infer and encode jobs share: work through a shard, skip what is done, survive failures."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pvio.collection import Source
from pvio.config import Settings
from pvio.errors import (
    ConfigError,
    FailedSegments,
    LostEntry,
    ModelError,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
    UnusableModel,
    memory_advice,
    no_space,
)
from pvio.image_names import is_sequence
from pvio.manifest import Part, PlannedSegment, ProbedVideo, Receipt, SegmentReceipt
from pvio.media.index import FrameIndex, content_digest, facts_of_stored, index_key
from pvio.progress import ProgressReport
from pvio.stages.plan import stored_index
from pvio.stages.staging import Staging, stage_folder
from pvio.stages.supervised import OUT_OF_MEMORY, Outcome, supervised
from pvio.store import Kind, Store, StoreError, look_up

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


# Computes a segment and commits its entries; is pickled, before its first call, where the system
# cannot fork.
Compute = Callable[[Task], None]


def work_through(
    part: Part,
    entries: list[tuple[Entry, ...]],
    store: Store,
    settings: Settings,
    compute: Compute,
) -> Receipt:
    """Compute the segments of a shard that are not in the store, in a child process.

    A segment that fails is logged with its traceback, and the others go on. So it is when the
    process dies at a segment twice. One whose video can no longer be read is noted in the receipt.
    One of which frames were given up is computed again only with more patience, and one that was
    drawn from other rows than those in the store, with these.

    Args:
        part: of the shard.
        entries: the entries of the store that each segment must have, the last one committed last.
        store: where finished segments are.
        settings: `decoder_timeout` and `stage` matter.
        compute: commits a segment's entries. The facts of the last one are `seconds`, `given_up`,
            `patience`, and for what is drawn `rows`, the digest of each predictions entry by key.

    Raises:
        FailedSegments: at the end, when segments failed, naming them.
        NoSpaceLeft: as soon as the disk is full.
        UnusableModel: as soon as the model cannot be loaded, which no segment would change.
        LostEntry: when an entry of an earlier stage is lost.
    """
    began, patience = time.perf_counter(), settings.decoder_timeout
    stage, shard, numbers = part.stage, part.shard, part.numbers
    finished = _finished(store, entries, patience)
    todo = [n for n, facts in zip(numbers, finished, strict=True) if facts is None]
    total = sum(part.segments[n].stop - part.segments[n].start for n in todo)
    log.info(
        "%s %s: %d segment(s), %d finished before, %d to do (%d frames)",
        stage, shard, len(numbers), len(numbers) - len(todo), len(todo), total,
    )  # fmt: skip
    wanted = dict(zip(numbers, entries, strict=True))
    lacking = {n: wanted[n] for n in todo}
    outcomes: dict[int, Outcome] = {}
    failures: dict[str, list[str]] = {}
    with (
        stage_folder(settings.stage if todo else None) as folder,
        ProgressReport(f"{stage} {shard}", total) as progress,
        contextlib.closing(
            supervised(
                _Work(part, lacking, store, patience, Staging(folder), compute),
                *(todo, progress.advance, store.temporaries),
            )
        ) as done,
    ):
        for outcome in done:
            name = _name_of(part, outcome.task)
            outcomes[outcome.task] = outcome
            if outcome.kind == "done":
                log.info("%s: done in %.1f s", name, outcome.value[-1]["seconds"]["total"])
            elif outcome.kind == "full":
                raise NoSpaceLeft(outcome.value)
            elif outcome.kind == "model":
                raise UnusableModel(outcome.value)
            elif outcome.kind == "lost":
                raise LostEntry(*outcome.value)
            elif outcome.kind == "failed":
                log.error("%s failed: %s", name, outcome.value)
                failures.setdefault(outcome.value, []).append(name)
    if failures:
        n_failed = sum(map(len, failures.values()))
        lines = [
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
            for reason, names in failures.items()
        ]
        raise FailedSegments(
            f"{n_failed} of {len(numbers)} segments of {stage} {shard} failed, the others are "
            "finished and kept:\n  " + "\n  ".join(lines) + "\n"
            "The results are written when all segments are done: mend the cause and run again, or "
            "take these videos out of `videos`"
        )
    _check_not_all_gone(part, outcomes)
    receipts = [
        _receipt(n, wanted[n], facts, outcomes.get(n))
        for n, facts in zip(numbers, finished, strict=True)
    ]
    return Receipt(stage, shard, round(time.perf_counter() - began, 3), receipts)


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
    if outcome is not None and outcome.kind == "unreadable":
        return SegmentReceipt(number, {}, False, failure=outcome.value)
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
        self._unusable = ""

    def __call__(self, task: int, careful: bool, progress: Callable[[int], None]) -> Outcome:
        segment, wanted = self._part.segments[task], self._wanted[task]
        video, name = self._part.videos[segment.video], _name_of(self._part, task)
        if self._unusable:  # told already; the job is about to end
            return Outcome(task, "model", self._unusable)
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
            own = isinstance(error, PvioError)
            log.error("%s: %s", name, error, exc_info=error.__cause__ if own else error)
            text = str(error) if own else f"{type(error).__name__}: {error}"
            advice = memory_advice(text)
            if advice and not careful:  # a new process begins with all of it
                logging.shutdown()
                os._exit(OUT_OF_MEMORY)
            if isinstance(error, UnusableModel) and not advice:
                self._unusable = text
                return Outcome(task, "model", text)
            return Outcome(task, "failed", text + advice)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """A context in which the model is loaded: when that fails, so it would for each segment.

    Raises:
        UnusableModel: with the text of the error.
    """
    try:
        yield
    except (ModelError, ConfigError) as error:
        raise UnusableModel(str(error)) from error.__cause__


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
        key, facts = facts_of_stored(source, store)
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
    except StoreError as error:
        log.warning("%s; it is computed again", error)
        return None
    may_do_better = facts[-1]["given_up"] and facts[-1]["patience"] < patience
    return facts if is_current and not may_do_better else None
