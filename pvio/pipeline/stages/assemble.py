"""Stage 5: finished segments joined into one predictions file and one video per source."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import pvio
from pvio.cache.atomic import remove_leftovers, write_json, write_text
from pvio.cache.digest import file_digest, make_key
from pvio.cache.store import Store
from pvio.collection.folders import PRODUCTS_FILE
from pvio.collection.image_names import image_files, is_sequence
from pvio.collection.names import NAMES_FILE, named_videos
from pvio.config.settings import Settings, dump_settings
from pvio.errors import FailedSegments, PvioError, UnreadableVideo, no_space, on_disk_of
from pvio.media.encode.concat import concat_segments
from pvio.media.index.frame_index import FrameIndex
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.jobs.shard import check_unchanged, read_entry
from pvio.pipeline.planning.cost import Measured, load_costs, works
from pvio.pipeline.planning.keys import predictions_key, video_key
from pvio.pipeline.planning.manifest import (
    Failures,
    Plan,
    PlannedSegment,
    ProbedVideo,
    Receipt,
    SegmentReceipt,
    failures_in,
)
from pvio.pipeline.report import render_report
from pvio.pipeline.results.snapshot import RUN_FILE, Snapshot, read_products
from pvio.pipeline.results.summary import SummaryRow, summary_table
from pvio.pipeline.stages.plan import stored_index
from pvio.predictions.parquet import deserialize, merge

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
    is_current: Callable[[], bool] = lambda: True,
    failures: Failures | None = None,
) -> list[SummaryRow]:
    """Write predictions, videos, `plan.json`, `summary.tsv` and `report.html` to `results`.

    They are made beside it and take its place as a whole. Products of the run before that are still
    right are taken over as they are. Whatever is raised for a video, see `reason_for_video`, costs
    this one alone: it is `failed`, and what an earlier run made of it goes.

    Args:
        plan: the manifest, whose segments are in the store, but for those that failed.
        settings: the same as everything was computed with.
        receipts: of the infer and encode jobs.
        results: folder of the products.
        threads: videos assembled at the same time.
        is_current: asked at the end whether the results may be replaced.
        failures: segments that have no result; those of the receipts when None.

    Raises:
        LostEntry: when the store lacks a segment.
        FailedSegments: when videos failed, and no other one has results.
        PvioError: when `results` cannot be replaced, or must not.
    """
    receipts = list(receipts)
    remove_leftovers(Store(settings.cache).temporaries)
    snapshot = Snapshot(results)
    try:
        return _assemble(plan, settings, receipts, snapshot, threads, is_current, failures)
    finally:
        snapshot.discard()


def _assemble(
    plan: Plan,
    settings: Settings,
    receipts: list[Receipt],
    snapshot: Snapshot,
    threads: int,
    is_current: Callable[[], bool],
    failures: Failures | None,
) -> list[SummaryRow]:
    if failures is None:
        failures = failures_in(receipts)
    worker = _Assembler(plan, settings, snapshot, receipts, failures)
    numbers = range(len(plan.videos))
    with ProgressReport("assemble", len(plan.videos), "videos") as progress:
        rows = []
        with ThreadPoolExecutor(threads) as pool:
            for row in pool.map(worker.assemble, numbers):
                rows.append(row)
                progress.advance(1)
    _check_not_all_failed(rows)
    _keep_costs(plan, settings, worker.model, receipts)
    summary = summary_table(rows)
    infers, encodes = (
        [receipt for receipt in receipts if receipt.stage == stage] for stage in ("infer", "encode")
    )
    if not is_current():
        raise PvioError("the plan has changed since this job began: its results are not wanted")
    worker.publish(
        {
            "plan.json": lambda path: write_json(path, plan),
            RUN_FILE: lambda path: write_json(path, _made_with(settings, worker.model)),
            NAMES_FILE: lambda path: write_json(path, _names(plan, snapshot.folder)),
            "summary.tsv": lambda path: write_text(path, summary),
            "report.html": lambda path: write_text(
                path, render_report(summary, plan, infers, encodes)
            ),
        }
    )
    return rows


def _check_not_all_failed(rows: list[SummaryRow]) -> None:
    """Results of before are better than none.

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
        f"{len(failed)} of {len(rows)} videos failed, and no other one has results. The results "
        "stay as they are. Fix the cause and run the same command again:\n  " + "\n  ".join(lines)
    )


def _made_with(settings: Settings, model: str) -> dict[str, str]:
    sections = ("segment_frames", "model", "decoder", "output")
    return {"settings": dump_settings(settings, *sections), "model": model}


def _names(plan: Plan, results: Path) -> dict[str, Any]:
    """The names of the videos, for `read_names`, and which results are called otherwise by now.

    Paths keep their names, so the latter are of files that were moved: the new path was not there
    before, and the old one is gone. A copy that is only taken out of the collection is none.
    """
    rows = named_videos(results)
    paths, after = {row["path"] for row in rows}, {video.name for video in plan.videos}
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
    """What the segments that this run computed took is for the next plan to know.

    It is a help for the next plan, and no result: whatever goes wrong is logged.
    """
    try:
        _learn_costs(plan, settings, model, receipts)
    except Exception as error:
        if no_space(error):
            raise
        logger.exception("what the segments took could not be noted")


def _learn_costs(plan: Plan, settings: Settings, model: str, receipts: Iterable[Receipt]) -> None:
    infer, encode = works(settings, model)
    found = [
        Measured(
            infer if receipt.stage == "infer" else encode,
            plan.videos[segment.video],
            segment.stop - segment.start,
            done.cost,
            done.seconds.get("prepare", 0.0),
        )
        for receipt in receipts
        for done in receipt.segments
        # Where a decoder hung, most of the time went into waiting.
        if done.computed and not done.given_up
        for segment in [plan.segments[done.segment]]
    ]
    if found:
        costs = load_costs(settings.cache)
        costs.learn(found)
        costs.save(settings.cache)


class _Assembler:
    """What assembling one video needs to know of the run."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        snapshot: Snapshot,
        receipts: Iterable[Receipt],
        failures: Failures,
    ):
        self.plan, self.settings, self.snapshot = plan, settings, snapshot
        self.store = Store(settings.cache)
        self.model = model_fingerprint(settings.model)
        self.status: dict[int, Counter[str]] = {}
        self.seconds: dict[str, dict[int, float]] = {
            "infer": defaultdict(float),
            "encode": defaultdict(float),
        }
        # By stage and video, in the order of the segments.
        self.failures: dict[str, dict[int, list[SegmentReceipt]]] = {
            "infer": defaultdict(list),
            "encode": defaultdict(list),
        }
        for (stage, number), failure in sorted(failures.items()):
            self.failures[stage][plan.segments[number].video].append(failure)
        self.not_finite: dict[int, Counter[str]] = defaultdict(Counter)
        self.given_up: dict[str, dict[int, list[str]]] = {
            "infer": defaultdict(list),
            "encode": defaultdict(list),
        }
        self.segments: dict[int, list[int]] = {}
        for number, segment in enumerate(plan.segments):
            self.segments.setdefault(segment.video, []).append(number)
        self.digests: dict[tuple[str, int], str] = {}
        for receipt in receipts:
            for done in receipt.segments:
                video = plan.segments[done.segment].video
                for kind, digest in done.digests.items():
                    self.digests[kind, done.segment] = digest
                self.status.setdefault(video, Counter()).update(done.status)
                self.not_finite[video].update(done.not_finite)
                if done.given_up:
                    self.given_up[receipt.stage][video].append(done.given_up)
                self.seconds[receipt.stage][video] += done.seconds.get("total", 0.0)
        self.made: dict[str, dict[str, Any]] = {}
        self._before = read_products(snapshot.folder)

    def assemble(self, number: int) -> SummaryRow:
        """Make the products of a video; whatever is raised for it becomes its reason."""
        video = self.plan.videos[number]
        row = SummaryRow(
            video.name, video.path, video.status, video.reason,
            height=video.height, width=video.width, rate=round(video.rate, 6),
            duration=round(video.duration, 6), codec=video.codec,
        )  # fmt: skip
        if video.status != "ok":
            return row
        try:
            return self._assembled(number, row)
        except Exception as error:
            reason = reason_for_video(error, video.path, "assembling", self.settings.cache)
            status = "unreadable" if isinstance(error, UnreadableVideo) else "failed"
            self._withdraw(video, reason)
            return replace(row, status=status, reason=reason)

    def _withdraw(self, video: ProbedVideo, reason: str) -> None:
        """Leave a video without products."""
        table = f"predictions/{video.name}.parquet"
        for name in (table, f"videos/{video.name}{self.settings.output.suffix}"):
            self.made.pop(name, None)
            with contextlib.suppress(OSError):
                self.snapshot.path(name).unlink(missing_ok=True)
        self.made[table] = {"failure": reason}

    def _assembled(self, number: int, row: SummaryRow) -> SummaryRow:
        video = self.plan.videos[number]
        if failed := self.failures["infer"][number]:
            reason = self._failure_of(number, failed)
            self.made[f"predictions/{video.name}.parquet"] = {"failure": reason}
            is_failed = any(each.failed for each in failed)
            return replace(row, status="failed" if is_failed else "unreadable", reason=reason)
        unreadable = [each for each in self.failures["encode"][number] if not each.failed]
        if unreadable:
            table = f"predictions/{video.name}.parquet"
            self.made[table] = {"failure": unreadable[0].failure}
            return replace(row, status="unreadable", reason=unreadable[0].failure)
        numbers = self.segments[number]
        segments = [self.plan.segments[each] for each in numbers]
        source = [video.path, video.digest]
        facts = [(video, segment, self.settings, self.model) for segment in segments]
        keys = [predictions_key(*fact) for fact in facts]
        self._make(
            f"predictions/{video.name}.parquet",
            [*source, *self._contents("predictions", numbers), self.model, pvio.__version__],
            lambda path: self._write_predictions(video, keys, path),
        )
        failure, remarks = "", []
        has_size = video.height > 0 and video.width > 0
        if self.settings.output.video != "none" and not has_size:
            remarks = ["no video: no frame tells how large it is"]
        elif self.settings.output.video != "none":
            name = f"videos/{video.name}{self.settings.output.suffix}"
            try:
                if failed := self.failures["encode"][number]:
                    failure = self._failure_of(number, failed)
                else:
                    videos = [video_key(*fact) for fact in facts]
                    remarks = self._make(
                        name,
                        [*source, *self._contents("video", numbers)],
                        lambda path: self._write_video(video, segments, videos, path),
                    )
            except Exception as error:
                failure = reason_for_video(error, video.path, "joining", self.settings.cache)
            if failure:
                self.made[name] = {"failure": failure}
                failure = f"no video: {failure}"
        counts = self.status.get(number, Counter())
        bad = ", ".join(
            f"{counts[status]} {status}"
            for status in ("suspect", "corrupt", "missing")
            if counts[status]
        )
        reasons = [
            video.damage,
            video.warning,
            f"of {video.n_frames} rows {bad}" if bad else "",
            *self.given_up["infer"][number],
            *(
                f"{name} is NaN or infinite in {n} rows"
                for name, n in self.not_finite[number].items()
            ),
            *remarks,
            failure,
        ]
        return replace(
            row,
            status="failed" if failure else "damaged" if bad or video.damage else "ok",
            reason="; ".join(reason for reason in reasons if reason),
            frames=video.n_frames,
            ok=counts["ok"],
            suspect=counts["suspect"],
            corrupt=counts["corrupt"],
            missing=counts["missing"],
            segments=len(segments),
            infer_seconds=round(self.seconds["infer"][number], 4),
            encode_seconds=round(self.seconds["encode"][number], 4),
        )

    def _failure_of(self, number: int, failed: list[SegmentReceipt]) -> str:
        """Why segments of a video have no result, as words."""
        reasons: dict[str, list[int]] = {}
        for each in failed:
            reasons.setdefault(each.failure, []).append(each.segment)
        if not any(each.failed for each in failed):
            return failed[0].failure
        n = len(self.segments[number])
        first = self.plan.segments[failed[0].segment]
        where = f"frames {first.start} to {first.stop - 1}"
        if n > 1:
            where = f"{len(failed)} of {n} segments failed, the first at {where}"
        else:
            where += " failed"
        others = f"; and for {len(reasons) - 1} other reason(s)" if len(reasons) > 1 else ""
        return f"{where}: {failed[0].failure}{others}"

    def _contents(self, kind: str, numbers: list[int]) -> list[str]:
        """Digests of the segments' entries."""
        return [self.digests[kind, number] for number in numbers]

    def _make(
        self, name: str, inputs: list[str], write: Callable[[Path], list[str] | None]
    ) -> list[str]:
        """Write a product unless the one that is there was made from the same inputs.

        Returns:
            What `write` found worth telling when it was written.
        """
        key = make_key(inputs=inputs)
        made = self._before.get(name, {})
        stamp = _stamp(self.snapshot.folder / name)
        if stamp and made.get("key") == key and stamp.items() <= made.items():
            self.snapshot.keep(name)
        else:
            path = self.snapshot.path(name)
            try:
                with on_disk_of(self.snapshot.folder):
                    remarks = write(path) or []
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            made = {"key": key, "digest": file_digest(path), "remarks": remarks, **_stamp(path)}
        self.made[name] = made
        return made["remarks"]

    def _write_predictions(self, video: ProbedVideo, keys: list[str], path: Path) -> None:
        index = stored_index(video, self.store)
        tables = [deserialize(read_entry(self.store, "predictions", key)[0]) for key in keys]
        metadata = {
            "source": video.path,
            "time_base": str(index.time_base),
            "rate": str(index.average_rate),
            "height": video.height,
            "width": video.width,
            "model": self.settings.model.model_dump(mode="json", exclude={"device"}),
            "model_fingerprint": self.model,
            "pvio_version": pvio.__version__,
        }
        with path.open("wb") as file:  # pyarrow takes no path that is no UTF-8
            pq.write_table(merge(tables, metadata), file, compression="zstd")

    def _write_video(
        self, video: ProbedVideo, segments: list[PlannedSegment], keys: list[str], path: Path
    ) -> list[str]:
        index: FrameIndex = stored_index(video, self.store)
        encoded = (
            (segment.start, segment.stop, read_entry(self.store, "video", key)[0])
            for segment, key in zip(segments, keys, strict=True)
        )
        check_unchanged(video, self.store)  # its sound and words are copied
        remarks = concat_segments(encoded, index, path)
        check_unchanged(video, self.store)
        return remarks

    def publish(self, more: dict[str, Callable[[Path], None]]) -> None:
        """Let the products, and some more that are always written, take the place of the old ones.

        Args:
            more: by name, what writes them.
        """
        with on_disk_of(self.snapshot.folder):
            for name, write in more.items():
                path = self.snapshot.path(name)
                write(path)
                self.made[name] = {"digest": file_digest(path), **_stamp(path)}
            write_json(self.snapshot.path(PRODUCTS_FILE), self.made)
        self.snapshot.publish({*self._before, *more, PRODUCTS_FILE})


def _stamp(path: Path) -> dict[str, int]:
    try:
        facts = path.stat()
    except OSError:
        return {}
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
