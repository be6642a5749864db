"""The products of one video: its predictions, its re-encoded video, its line of the summary."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import pvio
from pvio.cache.atomic import write_json
from pvio.cache.digest import file_digest, make_key
from pvio.cache.store import Store
from pvio.config.settings import Settings
from pvio.errors import UnreadableVideo, on_disk_of
from pvio.layout import PRODUCTS_FILE, predictions_file, video_file
from pvio.media.encode.concat import join_segments
from pvio.media.index.frame_index import FrameIndex
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.completion import read_entry
from pvio.pipeline.planning.keys import predictions_key, video_key
from pvio.pipeline.planning.manifest import (
    Failures,
    Plan,
    PlannedSegment,
    ProbedVideo,
    Receipt,
    SegmentReceipt,
)
from pvio.pipeline.planning.probed_video import check_unchanged, stored_index
from pvio.pipeline.results.products import read_products
from pvio.pipeline.results.snapshot import Snapshot
from pvio.pipeline.results.summary import SummaryRow
from pvio.predictions.parquet import deserialize, merge


class VideoResults:
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
        table = predictions_file(video.name)
        for name in (table, video_file(video.name, self.settings.output.suffix)):
            self.made.pop(name, None)
            with contextlib.suppress(OSError):
                self.snapshot.path(name).unlink(missing_ok=True)
        self.made[table] = {"failure": reason}

    def _assembled(self, number: int, row: SummaryRow) -> SummaryRow:
        video = self.plan.videos[number]
        if failed := self.failures["infer"][number]:
            reason = self._failure_of(number, failed)
            self.made[predictions_file(video.name)] = {"failure": reason}
            is_failed = any(each.failed for each in failed)
            return replace(row, status="failed" if is_failed else "unreadable", reason=reason)
        unreadable = [each for each in self.failures["encode"][number] if not each.failed]
        if unreadable:
            table = predictions_file(video.name)
            self.made[table] = {"failure": unreadable[0].failure}
            return replace(row, status="unreadable", reason=unreadable[0].failure)
        numbers = self.segments[number]
        segments = [self.plan.segments[each] for each in numbers]
        source = [video.path, video.digest]
        facts = [(video, segment, self.settings, self.model) for segment in segments]
        keys = [predictions_key(*fact) for fact in facts]
        self._make(
            predictions_file(video.name),
            [*source, *self._contents("predictions", numbers), self.model, pvio.__version__],
            lambda path: self._write_predictions(video, keys, path),
        )
        failure, remarks = "", []
        has_size = video.height > 0 and video.width > 0
        if self.settings.output.video != "none" and not has_size:
            remarks = ["no video: no frame tells how large it is"]
        elif self.settings.output.video != "none":
            name = video_file(video.name, self.settings.output.suffix)
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
        stamp = file_stamp(self.snapshot.folder / name)
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
            made = {"key": key, "digest": file_digest(path), "remarks": remarks, **file_stamp(path)}
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
                self.made[name] = {"digest": file_digest(path), **file_stamp(path)}
            write_json(self.snapshot.path(PRODUCTS_FILE), self.made)
        self.snapshot.publish({*self._before, *more, PRODUCTS_FILE})


def file_stamp(path: Path) -> dict[str, int]:
    try:
        facts = path.stat()
    except OSError:
        return {}
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
