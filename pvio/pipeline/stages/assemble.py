"""Stage 5: concatenate finished segments to one predictions file and one video per source."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pvio.cache.atomic import remove_stale_temporaries, write_json, write_text
from pvio.cache.entries import Cache
from pvio.collection.image_names import image_files, is_sequence
from pvio.collection.names import named_videos
from pvio.concurrency.child_process import WorkerPool
from pvio.config.settings import Settings
from pvio.errors import FailedSegments, NoSpaceLeft, NotWritable, PvioError, no_space
from pvio.layout import NAMES_FILE, REPORT_FILE, RESULTS_PLAN_FILE, RUN_FILE, STAGES, SUMMARY_FILE
from pvio.models.entry import model_fingerprint
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.planning.cost import CostModel, CostSample, stage_workloads
from pvio.pipeline.planning.keys import ResultKeys, made_with
from pvio.pipeline.planning.manifest import (
    Failures,
    Plan,
    Receipt,
    failures_in,
)
from pvio.pipeline.publishing.current import describe_missing, some
from pvio.pipeline.publishing.folders import next_folder, remove_products, run_of
from pvio.pipeline.report import render_report
from pvio.pipeline.results.outcomes import outcomes
from pvio.pipeline.results.products import Products
from pvio.pipeline.results.snapshot import Snapshot
from pvio.pipeline.results.summary import SummaryRow, parse_summary, summary_table
from pvio.pipeline.results.video_results import VideoResults

logger = logging.getLogger(__name__)

_SHOWN = 20
# Reasons that an error names.
_MOST_REASONS = 10


def assemble(
    plan: Plan,
    settings: Settings,
    receipts: Iterable[Receipt],
    results: str | os.PathLike[str],
    threads: int = 1,
    plan_is_unchanged: Callable[[], bool] = lambda: True,
    failures: Failures | None = None,
) -> list[SummaryRow]:
    """Write predictions, videos, `plan.json`, `summary.tsv` and `report.html` to `results`.

    They are written to a folder next to it, which replaces it as a whole. Up-to-date products of
    the run before are kept. An error for one video, see `reason_for_video`, affects only this
    video: it is `failed`, and its products of an earlier run are removed.

    Args:
        plan: the manifest, whose segments are in the cache, except those that failed.
        settings: those with which the segments were computed.
        receipts: of the infer and encode jobs.
        results: folder of the products.
        threads: videos assembled at the same time.
        plan_is_unchanged: called at the end; whether the results may be replaced.
        failures: segments that have no result; those of the receipts when None.

    Raises:
        LostEntry: when the cache lacks a segment.
        FailedSegments: when videos failed, and no other video has results.
        PvioError: when `results` cannot be replaced, or must not.
        NoSpaceLeft, NotWritable: when the disk is full or read-only; names the missing videos.
    """
    receipts = list(receipts)
    remove_stale_temporaries(Cache(settings.cache).temporaries)
    arguments = (threads, plan_is_unchanged, failures)
    try:
        with contextlib.closing(Snapshot(results)) as snapshot:
            return _assemble(plan, settings, receipts, snapshot, *arguments)
    except (OSError, NoSpaceLeft, NotWritable) as error:
        missing = describe_missing(results, plan.made_with, plan.videos, settings.output)
        if text := no_space(error):
            raise NoSpaceLeft(f"{text}. {missing}") from error
        if isinstance(error, NotWritable):
            raise NotWritable(f"{error}. {missing}") from error
        raise


def _assemble(
    plan: Plan,
    settings: Settings,
    receipts: list[Receipt],
    snapshot: Snapshot,
    threads: int,
    plan_is_unchanged: Callable[[], bool],
    failures: Failures | None,
) -> list[SummaryRow]:
    if failures is None:
        failures = failures_in(receipts)
    keys = ResultKeys(settings, model_fingerprint(settings.model))
    run, newer = made_with(settings, keys.fingerprint), next_folder(snapshot.folder)
    products = Products(snapshot, newer)
    of_videos = outcomes(plan, receipts, failures)
    numbers = range(len(plan.videos))
    n_workers = min(threads, len(numbers)) if settings.output.makes_video else 0
    workers = WorkerPool(n_workers, partial(log_to_stderr, logging.getLogger().level))
    video_results = VideoResults(plan, settings, keys, products, of_videos, workers)
    with ProgressReport("assemble", len(numbers), "videos") as progress:
        rows = []
        with workers, ThreadPoolExecutor(threads) as pool:
            for row in pool.map(video_results.make, numbers):
                rows.append(row)
                progress.advance(1)
    _check_not_all_failed(rows)
    _keep_costs(plan, settings, keys.fingerprint, receipts)
    summary = summary_table(rows)
    by_stage = {
        stage: [receipt for receipt in receipts if receipt.stage == stage] for stage in STAGES
    }
    if not plan_is_unchanged():
        raise PvioError(
            "another run replaced the plan while this job was running; its results are discarded"
        )
    products.publish(
        {
            RESULTS_PLAN_FILE: lambda path: write_json(path, plan),
            RUN_FILE: lambda path: write_json(path, run),
            NAMES_FILE: lambda path: write_json(path, _names(plan, snapshot.folder)),
            SUMMARY_FILE: lambda path: write_text(path, summary),
            REPORT_FILE: lambda path: write_text(
                path, render_report(parse_summary(summary), plan, by_stage)
            ),
        }
    )
    if run_of(newer) == run:
        remove_products(newer)
    return rows


def _check_not_all_failed(rows: list[SummaryRow]) -> None:
    """Check that there are results: old results are better than none.

    Raises:
        FailedSegments: when some videos failed, and no video has results.
    """
    failed = [row for row in rows if row.status == "failed"]
    if not failed or any(row.frames for row in rows):
        return
    reasons: dict[str, list[str]] = {}
    for row in failed:
        reasons.setdefault(row.reason, []).append(row.path)
    lines = [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {reason}"
        for reason, paths in list(reasons.items())[:_MOST_REASONS]
    ]
    raise FailedSegments(
        f"{len(failed)} of {len(rows)} videos failed, and no other video has results. The existing "
        "results are unchanged. Fix the cause and run the same command again:\n  "
        + "\n  ".join(lines)
    )


def _names(plan: Plan, results: Path) -> dict[str, Any]:
    """The names of the videos, for `read_names`, and results that were renamed.

    Paths keep their names, so renamed results are of moved files: the new path did not exist
    before, and the old one is missing. Copies that were only removed from the collection do not
    count.
    """
    rows = named_videos(results)
    paths, after = {row["path"] for row in rows}, {video.name for video in plan.videos}
    present = {video.path for video in plan.videos}
    before: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["digest"] and row["name"] not in after:
            before[row["digest"]].append(row)
    renamed: dict[str, str] = {}
    for video in plan.videos:
        if video.path in paths:
            continue
        for row in before.get(video.digest, ()):
            if row["name"] not in renamed and _is_gone(row["path"]):
                renamed[row["name"]] = video.name
                break
    gone = [
        row["name"] for row in rows if row["name"] not in renamed and row["path"] not in present
    ]
    if gone:
        logger.warning(
            "the results of %d video(s) are removed, since they are no longer in the collection "
            "(`videos`, `exclude`): %s",
            *(len(gone), some(gone)),
        )
    for old, new in list(renamed.items())[:_SHOWN]:
        logger.warning("the results %s are called %s now: the file was moved", old, new)
    if len(renamed) > _SHOWN:
        logger.warning("%d more results have another name now", len(renamed) - _SHOWN)
    videos = [
        {"path": video.path, "name": video.name, "digest": video.digest} for video in plan.videos
    ]
    return {"videos": videos, "renamed": renamed}


def _is_gone(path: str) -> bool:
    """Whether there is no such file, folder or, for a pattern of images, no image of it."""
    with contextlib.suppress(OSError):
        if is_sequence(path):
            return not image_files(path)
    return not os.path.lexists(path)


def _keep_costs(plan: Plan, settings: Settings, model: str, receipts: Iterable[Receipt]) -> None:
    """Save the measured costs of the segments that this run computed, for the next plan.

    This helps the next plan and is no result, so errors are only logged.
    """
    try:
        _learn_costs(plan, settings, model, receipts)
    except Exception as error:
        if no_space(error):
            raise
        logger.exception("the measured costs of the segments could not be saved")


def _learn_costs(plan: Plan, settings: Settings, model: str, receipts: Iterable[Receipt]) -> None:
    workloads = stage_workloads(settings, model)
    found = [
        CostSample(
            workloads[receipt.stage],
            plan.videos[segment.video],
            segment.stop - segment.start,
            done.cost,
            done.seconds.get("prepare", 0.0),
        )
        for receipt in receipts
        for done in receipt.segments
        # Without segments at which a decoder hung: most of their time was waiting.
        if done.is_new and not done.skipped_reason
        for segment in [plan.segments[done.segment]]
    ]
    if found:
        costs = CostModel.load(settings.cache)
        costs.update(found)
        costs.save(settings.cache)
