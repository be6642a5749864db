"""The results of one video: its products, and its line of the summary."""

from __future__ import annotations

from dataclasses import replace

from pvio.concurrency.child_process import WorkerPool
from pvio.config.settings import Settings
from pvio.errors import UnreadableVideo
from pvio.layout import predictions_file, video_file
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import Plan, PlannedSegment, ProbedVideo, SegmentReceipt
from pvio.pipeline.results.outcomes import VideoOutcome
from pvio.pipeline.results.products import Products
from pvio.pipeline.results.summary import SummaryRow, finished_row, first_row
from pvio.pipeline.results.video_products import VideoProducts


class VideoResults:
    """Makes the products of videos, one at a time; several threads may call it.

    Args:
        plan: the manifest.
        settings: those with which the segments were computed.
        keys: the entries of the segments.
        products: receives the products.
        outcomes: of the segments of each video.
        workers: concatenate segments, for which they read the source.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        keys: ResultKeys,
        products: Products,
        outcomes: list[VideoOutcome],
        workers: WorkerPool,
    ):
        self._plan, self._settings = plan, settings
        self._products, self._outcomes = products, outcomes
        self._maker = VideoProducts(settings, keys, products, workers)

    def make(self, number: int) -> SummaryRow:
        """Make the products of a video; any error becomes its reason."""
        video = self._plan.videos[number]
        row = first_row(video)
        if video.status != "ok":
            return row
        try:
            return self._made(video, self._outcomes[number], row)
        except Exception as error:
            reason = reason_for_video(error, video.path, "assembling", self._settings.cache)
            status = "unreadable" if isinstance(error, UnreadableVideo) else "failed"
            self._withdraw(video, reason)
            return replace(row, status=status, reason=reason)

    def _withdraw(self, video: ProbedVideo, reason: str) -> None:
        """Leave a video without products."""
        self._products.withdraw(video_file(video.name, self._settings.output.suffix))
        self._products.note_failure(predictions_file(video.name), reason)

    def _made(self, video: ProbedVideo, outcome: VideoOutcome, row: SummaryRow) -> SummaryRow:
        segments = [self._plan.segments[number] for number in outcome.segments]
        if failed := outcome.failures["infer"]:
            reason = self._describe(failed, len(segments))
            self._products.note_failure(predictions_file(video.name), reason)
            is_failed = any(each.failed for each in failed)
            return replace(row, status="failed" if is_failed else "unreadable", reason=reason)
        if unreadable := [each for each in outcome.failures["encode"] if not each.failed]:
            reason = unreadable[0].failure_reason
            self._products.note_failure(predictions_file(video.name), reason)
            return replace(row, status="unreadable", reason=reason)
        self._maker.make_predictions(video, segments, outcome)
        warnings, failure = self._make_video(video, outcome, segments)
        return finished_row(video, outcome, warnings, failure)

    def _make_video(
        self, video: ProbedVideo, outcome: VideoOutcome, segments: list[PlannedSegment]
    ) -> tuple[list[str], str]:
        """Make the re-encoded video.

        Returns:
            Warnings for the user, and the reason why an expected video is missing.
        """
        if not self._settings.output.makes_video:
            return [], ""
        if not (video.height > 0 and video.width > 0):
            return ["no video: its frame size is unknown"], ""
        name = video_file(video.name, self._settings.output.suffix)
        try:
            if not (failed := outcome.failures["encode"]):
                return self._maker.make_video(video, segments, outcome), ""
            reason = self._describe(failed, len(segments))
        except Exception as error:
            reason = reason_for_video(error, video.path, "concatenating", self._settings.cache)
        self._products.note_failure(name, reason)
        return [], f"no video: {reason}"

    def _describe(self, failed: list[SegmentReceipt], n_segments: int) -> str:
        """The reason why segments of a video have no result."""
        first = failed[0]
        if not any(each.failed for each in failed):
            return first.failure_reason
        segment = self._plan.segments[first.segment]
        where = f"frames {segment.start} to {segment.stop - 1}"
        if n_segments > 1:
            where = f"{len(failed)} of {n_segments} segments failed, the first at {where}"
        else:
            where += " failed"
        n_others = len({each.failure_reason for each in failed}) - 1
        others = f"; and for {n_others} other reason(s)" if n_others else ""
        return f"{where}: {first.failure_reason}{others}"
