"""Publishes a video as soon as all of its segments are finished."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

from pvio.cache.entries import Cache
from pvio.concurrency.child_process import Worker
from pvio.config.settings import Settings
from pvio.layout import Stage
from pvio.pipeline.guard import describe, reason_for_video
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import ProbedVideo, SegmentReceipt, ShardPlan
from pvio.pipeline.publishing.current import product_names
from pvio.pipeline.publishing.folders import publishing_folder
from pvio.pipeline.publishing.published_products import PublishedProducts
from pvio.pipeline.results.outcomes import VideoOutcome
from pvio.pipeline.results.summary import finished_row

logger = logging.getLogger(__name__)

# Videos that are not published for the same reason.
_MOST_LOGGED = 5


class Publisher:
    """Publishes the videos that a shard job finishes.

    A video is published by the job that commits its last segment. If two jobs do so at the same
    time, one of them publishes it. An error is logged, and left to the last stage, which makes the
    products that are missing.

    Args:
        part: the plan of the shard; its segments are all segments of its videos.
        settings: of the job.
        fingerprint: of the model.
        results: folder of the products.
    """

    def __init__(
        self,
        part: ShardPlan,
        settings: Settings,
        fingerprint: str,
        results: str | os.PathLike[str],
    ):
        self._part, self._settings, self._results = part, settings, results
        keys = ResultKeys(settings, fingerprint)
        self._completion = Completion(keys, Cache(settings.cache), settings.decoder_timeout)
        self._segments: dict[int, list[int]] = defaultdict(list)
        for number, segment in part.segments.items():
            self._segments[segment.video].append(number)
        stages = keys.stages
        self._stages: tuple[Stage, ...] = stages[: stages.index(part.stage) + 1]
        self._kinds = {kind for stage in self._stages for kind in keys.output.kinds_of(stage)}
        self._products: PublishedProducts | None = None
        self._n_logged: Counter[str] = Counter()
        self._workers = Worker(partial(log_to_stderr, logging.getLogger().level))

    def publish(self, number: int) -> bool:
        """Publish a video if all of its segments are finished; products that are right stay.

        Args:
            number: of the video, all of whose segments in this shard are finished.

        Returns:
            Whether this call has put any product there.
        """
        video = self._part.videos[number]
        try:
            outcome = self._outcome(number, video)
            if outcome is None or (products := self._destination()) is None:
                return False
            with products.alone(video.name) as is_alone:
                if not is_alone:
                    return False
                n_before = products.n_made
                self._make(video, outcome, products)
                is_new = products.n_made > n_before
            if is_new:
                logger.info("%s: published in %s", video.path, products.folder.name)
            return is_new
        except Exception as error:
            reason = describe(error)
            with contextlib.suppress(Exception):
                reason = reason_for_video(error, video.path, "publishing", self._settings.cache)
            self._warn(video, reason)
        return False

    def _warn(self, video: ProbedVideo, reason: str) -> None:
        """Log why a video is not published; a reason of very many videos is logged a few times."""
        self._n_logged[reason] += 1
        if self._n_logged[reason] <= _MOST_LOGGED:
            logger.warning("%s: not published yet: %s", video.path, reason)
        if self._n_logged[reason] == _MOST_LOGGED:
            logger.warning("further videos that are not published for this reason are not listed")

    def _destination(self) -> PublishedProducts | None:
        folder = publishing_folder(self._results, self._part.made_with)
        if folder is None:
            return None
        if self._products is None or self._products.folder != folder:
            results = Path(os.path.realpath(self._results))
            writer = f"{self._part.stage}-{self._part.shard}"
            names = {name for video in self._part.videos.values() for name in self._names(video)}
            other = None if folder == results else results
            self._products = PublishedProducts(folder, writer, names, other)
        return self._products

    def _outcome(self, number: int, video: ProbedVideo) -> VideoOutcome | None:
        """The outcome of a video; None unless all of its segments are finished."""
        outcome = VideoOutcome()
        for segment in self._segments[number]:
            outcome.segments.append(segment)
            for stage in self._stages:
                found = self._completion.finished(stage, video, self._part.segments[segment])
                if found is None:
                    return None
                kinds = self._completion.keys.output.kinds_of(stage)
                done = SegmentReceipt.of_entries(segment, kinds, found, computed=False)
                outcome.add(stage, done)
        return outcome

    def _names(self, video: ProbedVideo) -> set[str]:
        names = product_names(video, self._settings.output)
        return set(names if "video" in self._kinds else names[:1])

    def _make(self, video: ProbedVideo, outcome: VideoOutcome, products: PublishedProducts) -> None:
        from pvio.pipeline.results.video_products import VideoProducts

        segments = [self._part.segments[number] for number in outcome.segments]
        maker = VideoProducts(self._settings, self._completion.keys, products, self._workers)
        maker.make_predictions(video, segments, outcome)
        warnings: list[str] = []
        if len(self._names(video)) > 1:
            warnings = maker.make_video(video, segments, outcome)
        if self._stages == self._completion.keys.stages:  # it is complete
            products.note_row(finished_row(video, outcome, warnings))
