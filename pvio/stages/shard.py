"""What infer and encode jobs share: work through a shard, skip what is done, survive failures."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pvio.collection import Source
from pvio.cost import Stage
from pvio.errors import FailedSegments, PvioError, UnreadableVideo
from pvio.manifest import Plan, PlannedSegment, ProbedVideo, Receipt, SegmentReceipt
from pvio.media.index import FrameIndex, index_key
from pvio.progress import ProgressReport
from pvio.stages.plan import stored_index
from pvio.store import LOOKUP_THREADS, Kind, Store, StoreError

log = logging.getLogger(__name__)

Entry = tuple[Kind, str]
Facts = dict[str, Any]
Compute = Callable[[PlannedSegment, FrameIndex, tuple[Entry, ...], Callable[[int], None]], None]


def parse_shard(text: str, n_shards: int) -> int:
    """Number, from 0, of the shard called "k-of-n".

    Raises:
        PvioError: when it is none of the plan's shards.
    """
    match = re.fullmatch(r"(\d+)-of-(\d+)", text)
    if not match or int(match[2]) != n_shards or not 1 <= int(match[1]) <= n_shards:
        raise PvioError(
            f"--shard {text}: expected k-of-{n_shards}, the plan has {n_shards} shard(s)"
        )
    return int(match[1]) - 1


def work_through(
    stage: Stage,
    shard: str,
    plan: Plan,
    numbers: list[int],
    entries: list[tuple[Entry, ...]],
    store: Store,
    patience: float,
    compute: Compute,
) -> Receipt:
    """Compute the segments of a shard that are not in the store.

    A segment that fails is logged with its traceback, and the others go on. One whose video can no
    longer be read is noted in the receipt. One of which frames were given up is computed again only
    with more patience, and one that was drawn from other rows than those in the store, with these.

    Args:
        stage, shard: for progress and the receipt.
        plan: the manifest.
        numbers: the shard's segments.
        entries: the entries of the store that each of them must have, the last one committed last.
        store: where finished segments are.
        patience: the setting `decoder_timeout`, in seconds.
        compute: commits a segment's entries. The facts of the last one are `seconds`, `given_up`,
            `patience`, and for what is drawn `rows`, the digest of each predictions entry by key.

    Raises:
        FailedSegments: at the end, when segments failed, naming them.
    """
    began = time.perf_counter()
    finished = _finished(store, entries, patience)
    checked: set[int] = set()
    receipts: list[SegmentReceipt] = []
    failures: dict[str, list[str]] = {}
    todo = [n for n, facts in zip(numbers, finished, strict=True) if facts is None]
    total = sum(plan.segments[n].stop - plan.segments[n].start for n in todo)
    log.info(
        "%s %s: %d segment(s), %d finished before, %d to do (%d frames)",
        stage, shard, len(numbers), len(numbers) - len(todo), len(todo), total,
    )  # fmt: skip
    with ProgressReport(f"{stage} {shard}", total) as progress:
        for number, wanted, facts in zip(numbers, entries, finished, strict=True):
            segment = plan.segments[number]
            video = plan.videos[segment.video]
            computed = facts is None
            if facts is None:
                name = f"{video.name} frames {segment.start} to {segment.stop - 1}"
                try:
                    if segment.video not in checked:
                        _check_unchanged(video)
                        checked.add(segment.video)
                    index = stored_index(video, store)
                    compute(segment, index, wanted, progress.advance)
                    facts = [store.info(*entry) for entry in wanted]
                except UnreadableVideo as error:
                    # As with a video that could not be read at the start: it is reported.
                    log.warning("%s: %s", name, error)
                    receipts.append(SegmentReceipt(number, {}, False, failure=error.reason))
                    continue
                except PvioError as error:
                    log.error("%s: %s", name, error, exc_info=error.__cause__)
                    failures.setdefault(str(error), []).append(name)
                    continue
                except Exception as error:
                    log.exception("%s failed", name)
                    failures.setdefault(f"{type(error).__name__}: {error}", []).append(name)
                    continue
                log.info("%s: done in %.1f s", name, facts[-1]["seconds"]["total"])
            receipts.append(
                SegmentReceipt(
                    number,
                    {kind: each["digest"] for (kind, _), each in zip(wanted, facts, strict=True)},
                    computed,
                    facts[-1].get("status", {}),
                    facts[-1]["seconds"],
                    given_up=facts[-1]["given_up"],
                )
            )
    if failures:
        n_failed = sum(map(len, failures.values()))
        lines = [
            f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
            for reason, names in failures.items()
        ]
        raise FailedSegments(
            f"{n_failed} of {len(numbers)} segments of {stage} {shard} failed, the others are "
            "finished and kept:\n  " + "\n  ".join(lines)
        )
    return Receipt(stage, shard, round(time.perf_counter() - began, 3), receipts)


def read_entry(store: Store, kind: Kind, key: str) -> tuple[bytes, Facts]:
    """Payload and facts of an entry that an earlier stage committed.

    Raises:
        StoreError: when it is lost or damaged, saying what to do; a damaged one is removed.
    """
    try:
        return store.read(kind, key)
    except StoreError as error:
        store.discard(kind, key)
        stage = "infer" if kind == "predictions" else "encode"
        raise StoreError(
            f"{error}. Run the workflow again with --forcerun {stage} (infer for videos with "
            "output.video: frames): only what is lost is computed"
        ) from error


def _check_unchanged(video: ProbedVideo) -> None:
    source = Source(video.path, video.name, video.is_image_folder)
    if index_key(source) != video.index_key:
        raise UnreadableVideo(video.path, "it changed during the run; run the workflow again")


def _finished(
    store: Store, entries: list[tuple[Entry, ...]], patience: float
) -> list[list[Facts] | None]:
    """For every segment the facts of its entries; None where it is to be computed."""

    def look(wanted: tuple[Entry, ...]) -> list[Facts] | None:
        if not all(store.has(kind, key) for kind, key in wanted):
            return None
        try:
            facts = [store.info(*entry) for entry in wanted]
            drawn_from = facts[-1].get("rows", {})
            is_current = all(
                store.info("predictions", key)["digest"] == digest
                for key, digest in drawn_from.items()
            )
        except StoreError as error:
            log.warning("%s; it is computed again", error)
            return None
        may_do_better = facts[-1]["given_up"] and facts[-1]["patience"] < patience
        return facts if is_current and not may_do_better else None

    with ThreadPoolExecutor(LOOKUP_THREADS) as pool:
        return list(pool.map(look, entries))
