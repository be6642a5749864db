"""Stage 5: finished segments joined into one predictions file and one video per source."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq

import pvio
from pvio.collection import NAMES_FILE, PRODUCTS_FILE
from pvio.collection.names import named_videos
from pvio.config import Settings, dump_settings
from pvio.cost import Measured, load_costs, works
from pvio.errors import (
    EncodeError,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
    no_space,
    on_disk_of,
)
from pvio.keys import predictions_key, video_key
from pvio.manifest import Plan, PlannedSegment, ProbedVideo, Receipt
from pvio.media.index import FrameIndex
from pvio.media.stitch import join_segments
from pvio.models.entry import model_fingerprint
from pvio.predictions import deserialize, merge
from pvio.progress import ProgressReport
from pvio.report import render_report
from pvio.stages.plan import stored_index
from pvio.stages.shard import check_unchanged, read_entry
from pvio.stages.snapshot import RUN_FILE, Snapshot, read_products
from pvio.store import Store, file_digest, make_key, remove_leftovers, write_json, write_text
from pvio.summary import SummaryRow, summary_table

log = logging.getLogger(__name__)

_SHOWN = 20


def assemble(
    plan: Plan,
    settings: Settings,
    receipts: Iterable[Receipt],
    results: str | os.PathLike[str],
    threads: int = 1,
    is_current: Callable[[], bool] = lambda: True,
) -> list[SummaryRow]:
    """Write predictions, videos, `plan.json`, `summary.tsv` and `report.html` to `results`.

    They are made beside it and take its place as a whole. Products of the run before that are still
    right are taken over as they are.

    Args:
        plan: the manifest, whose segments are all in the store.
        settings: the same as everything was computed with.
        receipts: of the infer and encode jobs.
        results: folder of the products.
        threads: videos assembled at the same time.
        is_current: asked at the end whether the results may be replaced.

    Raises:
        LostEntry: when the store lacks a segment.
        PvioError: when `results` cannot be replaced, or must not.
    """
    receipts = list(receipts)
    remove_leftovers(Store(settings.cache).temporaries)
    snapshot = Snapshot(results)
    try:
        return _assemble(plan, settings, receipts, snapshot, threads, is_current)
    finally:
        snapshot.discard()


def _assemble(
    plan: Plan,
    settings: Settings,
    receipts: list[Receipt],
    snapshot: Snapshot,
    threads: int,
    is_current: Callable[[], bool],
) -> list[SummaryRow]:
    worker = _Assembler(plan, settings, snapshot, receipts)
    numbers = range(len(plan.videos))
    with ProgressReport("assemble", len(plan.videos), "videos") as progress:
        rows = []
        with ThreadPoolExecutor(threads) as pool:
            for row in pool.map(worker.assemble, numbers):
                rows.append(row)
                progress.advance(1)
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


def _made_with(settings: Settings, model: str) -> dict[str, str]:
    sections = ("segment_frames", "model", "decoder", "output")
    return {"settings": dump_settings(settings, *sections), "model": model}


def _names(plan: Plan, results: Path) -> dict[str, Any]:
    """The names of the videos, for `read_names`, and which results are called otherwise by now.

    Paths keep their names, so the latter are of files that were moved.
    """
    before = {row["digest"]: row["name"] for row in named_videos(results) if row["digest"]}
    after = {video.name for video in plan.videos}
    renamed = {
        before[video.digest]: video.name
        for video in plan.videos
        if video.digest in before and before[video.digest] not in after
    }
    for old, new in list(renamed.items())[:_SHOWN]:
        log.warning("the results %s are called %s now: the file was moved", old, new)
    if len(renamed) > _SHOWN:
        log.warning("%d more results have another name now", len(renamed) - _SHOWN)
    videos = [
        {"path": video.path, "name": video.name, "digest": video.digest} for video in plan.videos
    ]
    return {"videos": videos, "renamed": renamed}


def _keep_costs(plan: Plan, settings: Settings, model: str, receipts: Iterable[Receipt]) -> None:
    """What the segments that this run computed took is for the next plan to know."""
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
        self, plan: Plan, settings: Settings, snapshot: Snapshot, receipts: Iterable[Receipt]
    ):
        self.plan, self.settings, self.snapshot = plan, settings, snapshot
        self.store = Store(settings.cache)
        self.model = model_fingerprint(settings.model)
        self.status: dict[int, Counter[str]] = {}
        self.seconds: dict[str, dict[int, float]] = {
            "infer": defaultdict(float),
            "encode": defaultdict(float),
        }
        self.failures: dict[int, str] = {}
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
                if done.failure:
                    self.failures[video] = done.failure
                self.not_finite[video].update(done.not_finite)
                if done.given_up:
                    self.given_up[receipt.stage][video].append(done.given_up)
                self.seconds[receipt.stage][video] += done.seconds.get("total", 0.0)
        self.made: dict[str, dict[str, Any]] = {}
        self._before = read_products(snapshot.folder)

    def assemble(self, number: int) -> SummaryRow:
        video = self.plan.videos[number]
        row = SummaryRow(
            video.name, video.path, video.status, video.reason,
            height=video.height, width=video.width, rate=round(video.rate, 6),
            duration=round(video.duration, 6), codec=video.codec,
        )  # fmt: skip
        if video.status != "ok":
            return row
        if number in self.failures:
            return replace(row, status="unreadable", reason=self.failures[number])
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
            videos = [video_key(*fact) for fact in facts]
            name = f"videos/{video.name}{self.settings.output.suffix}"
            try:
                remarks = self._make(
                    name,
                    [*source, *self._contents("video", numbers)],
                    lambda path: self._write_video(video, segments, videos, path),
                )
            except (EncodeError, UnreadableVideo, av.error.FFmpegError) as error:
                if no_space(error):
                    raise NoSpaceLeft(no_space(error)) from error
                log.exception("%s: its video could not be joined", video.path)
                failure = f"no video: {error}"
                self.made[name] = {"failure": str(error)}
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
            "rate": str(index.rate),
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
        remarks = join_segments(encoded, index, path)
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
