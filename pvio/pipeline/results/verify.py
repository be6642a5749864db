"""`pvio verify`: check finished results against their sources and each other."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from pvio.cache.digest import file_digest
from pvio.collection.sources import Source
from pvio.concurrency.child_process import Worker
from pvio.config.codecs import VIDEO_SUFFIXES
from pvio.errors import PvioError
from pvio.layout import REPORT_FILE, RESULTS_PLAN_FILE, SUMMARY_FILE, predictions_file, video_file
from pvio.media.index.frame_index import FrameIndex
from pvio.media.index.isolated import build_index_in_child
from pvio.media.timing.muxed_times import muxed_timestamps, presentation_times
from pvio.models.contract import BASE_COLUMNS
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.manifest import ProbedVideo, read_plan
from pvio.pipeline.results.product_table import ProductTable, require_products
from pvio.pipeline.results.summary import read_summary
from pvio.predictions.parquet import Predictions, read_predictions

# Seconds without progress of FFmpeg.
_TIMEOUT = 120.0
# Written by a run in addition to the products of each video.
RUN_PRODUCTS = (SUMMARY_FILE, REPORT_FILE, RESULTS_PLAN_FILE)


def verify(results: Path) -> tuple[list[str], list[str]]:
    """Check every product that `results/plan.json` lists.

    Predictions: the file has the digest that was noted and a row for every frame of the source, at
    the source's timestamps; rows of frames without pixels have no output. Videos: the file has the
    digest that was noted, and its frames are shown at the times of the rows. Summary, plan and
    report have the digests that were noted. The summary has a line for each video, with as many
    rows of each status as its predictions.

    Args:
        results: folder of the products.

    Returns:
        Errors, and warnings that list rows that are not `ok`.

    Raises:
        PvioError: when there are no results to check.
    """
    products = require_products(results)
    errors: list[str] = []
    warnings: list[str] = []
    videos = read_plan(results / RESULTS_PLAN_FILE).videos
    for name in RUN_PRODUCTS:
        errors += [f"{name}: {error}" for error in _check_run_product(results, name, products)]
    summary, wrong = _read_summary(results, videos)
    errors += [f"summary.tsv: {error}" for error in wrong]
    for video in videos:
        try:
            _verify_video(video, results, products, summary, errors, warnings)
        except Exception as error:
            reason = reason_for_video(error, video.path, "verifying")
            errors.append(f"{video.name}: verification failed: {reason}")
    return errors, warnings


def _verify_video(
    video: ProbedVideo,
    results: Path,
    products: ProductTable,
    summary: dict[str, dict[str, str]],
    errors: list[str],
    warnings: list[str],
) -> None:
    """Append the errors and the warnings of one video."""
    if video.status != "ok":
        warnings.append(f"{video.name}: no results, {video.reason}")
        return
    if video.damage:
        warnings.append(f"{video.name}: {video.damage}")
    name = predictions_file(video.name)
    if "failure" in products.get(name, {}):
        warnings.append(f"{video.name}: no results, {products[name]['failure']}")
        return
    rows = _read(results / name)
    errors += [f"{name}: {error}" for error in _check_file(results, name, products)]
    if rows is None:
        errors.append(f"{name}: the file cannot be read")
        return
    errors += [f"{name}: {error}" for error in _check_rows(rows, video)]
    if video.name in summary:
        errors += [
            f"summary.tsv: {video.name}: {error}"
            for error in _check_counts(summary[video.name], rows)
        ]
    warnings += [f"{video.name}: {warning}" for warning in _not_ok(rows)]
    for name in (video_file(video.name, suffix) for suffix in VIDEO_SUFFIXES):
        if "failure" in products.get(name, {}):
            errors.append(f"{name}: concatenation failed: {products[name]['failure']}")
        elif name in products:
            errors += [f"{name}: {error}" for error in _check_file(results, name, products)]
            if (results / name).is_file():
                errors += [f"{name}: {error}" for error in _check_video(results / name, rows)]


def _check_run_product(results: Path, name: str, products: ProductTable) -> Iterator[str]:
    if name in products or not (results / name).is_file():  # earlier versions did not list them
        yield from _check_file(results, name, products)


def _read_summary(
    results: Path, videos: list[ProbedVideo]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The lines of the summary by name, and their errors."""
    try:
        rows = read_summary(results / SUMMARY_FILE)
        found = [(row["name"], row["path"]) for row in rows]
    except (PvioError, LookupError) as error:
        return {}, [f"the file cannot be read: {error}"]
    expected = [(video.name, video.path) for video in videos]
    wrong = [] if found == expected else ["the videos differ from those of plan.json"]
    return {row["name"]: row for row in rows}, wrong


def _check_counts(row: dict[str, str], rows: Predictions) -> Iterator[str]:
    expected = {"frames": len(rows["frame"])} | {
        status: int((rows["status"] == status).sum())
        for status in ("ok", "suspect", "corrupt", "missing")
    }
    for column, n in expected.items():
        if row.get(column) != str(n):
            yield f"{column} is {row.get(column)}, but the predictions have {n}"


def _read(path: Path) -> Predictions | None:
    try:
        return read_predictions(path)
    except (OSError, pa.ArrowException):
        return None


def _check_file(results: Path, name: str, products: ProductTable) -> Iterator[str]:
    if not (results / name).is_file():
        yield "the file is missing"
    elif name not in products:
        yield "no run has written the file"
    elif file_digest(results / name) != products[name]["digest"]:
        yield "the file was changed: its digest differs"


def _check_rows(rows: Predictions, video: ProbedVideo) -> Iterator[str]:
    n = len(rows["frame"])
    if n != video.n_frames:
        yield f"{n} rows for {video.n_frames} frames"
        return
    if not np.array_equal(rows["frame"], np.arange(n)):
        yield "the frames are not numbered from 0 on"
    index = _source_index(video)
    if index is None:
        yield f"the source {video.path} is missing or was changed"
    elif not np.array_equal(rows["pts"], index.pts):
        wrong = int(np.flatnonzero(rows["pts"] != index.pts)[0])
        yield f"the timestamp of frame {wrong} differs from the source's"
    elif not np.array_equal(rows["time"], index.times):
        yield "times and timestamps disagree"
    empty = np.isin(rows["status"], ["corrupt", "missing"])
    for name, values in rows.items():
        if name in BASE_COLUMNS or not empty.any():
            continue
        if np.ma.isMaskedArray(values):
            filled = ~np.ma.getmaskarray(values)[empty]
        elif values.dtype.kind == "f":
            filled = ~np.isnan(values[empty])
        else:
            filled = np.ones(1, bool)
        if filled.any():
            yield f"rows of frames without pixels have values in '{name}'"


def _source_index(video: ProbedVideo) -> FrameIndex | None:
    try:
        source = Source(video.path, video.name, video.is_image_folder)
        with Worker() as worker:
            index = build_index_in_child(source, worker, _TIMEOUT)
    except PvioError:
        return None
    return index if index.content_digest == video.digest else None


def _check_video(path: Path, rows: Predictions) -> Iterator[str]:
    time_base = Fraction(rows.metadata["time_base"])
    stamps, unit = muxed_timestamps(rows["pts"], time_base, path)
    expected = [int(pts) * unit for pts in stamps]
    try:
        times = presentation_times(path)
    except (OSError, av.error.FFmpegError) as error:
        yield f"the file cannot be read: {error}"
        return
    if len(times) != len(expected):
        yield f"{len(times)} frames for {len(expected)} rows"
    elif times != expected:
        yield "the frames are not shown at the times of the rows"


def _not_ok(rows: Predictions) -> Iterator[str]:
    """Ranges of rows that are not `ok`, by status."""
    status = rows["status"]
    for value in ("suspect", "corrupt", "missing"):
        numbers = np.flatnonzero(status == value).tolist()
        if not numbers:
            continue
        runs = [
            [number for _, number in run]
            for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
        ]
        spans = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
        shown = ", ".join(spans[:20]) + (f" and {len(spans) - 20} more" if len(spans) > 20 else "")
        yield f"{len(numbers)} {value}: frames {shown}"
