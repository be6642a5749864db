"""Where finished videos appear, one by one, while other jobs still compute, and how.

That is in `results` itself if it is new, or has products of the same settings. Otherwise the old
products stay whole, and the new ones appear in `results.next`, which replaces `results` at the end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pvio.cache.atomic import write_json
from pvio.cache.entries import Cache
from pvio.concurrency.child_process import Worker
from pvio.concurrency.timeout import keep_reporting
from pvio.config.settings import Settings
from pvio.errors import on_disk_of
from pvio.layout import (
    NEXT_SUFFIX,
    PRODUCTS_FILE,
    RUN_FILE,
    Stage,
    predictions_file,
    video_file,
)
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import ProbedVideo, ShardPlan
from pvio.pipeline.results.outcomes import VideoOutcome
from pvio.pipeline.results.products import PublishedProducts

logger = logging.getLogger(__name__)

RunIdentity = dict[str, Any]


def next_folder(results: str | os.PathLike[str]) -> Path:
    """The folder in which products of other settings appear; it is next to the results."""
    folder = Path(os.path.realpath(results))
    return folder.with_name(folder.name + NEXT_SUFFIX)


def run_of(folder: Path) -> RunIdentity | None:
    """What the products of a folder are made with; None for a folder without products."""
    try:
        found = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def publishing_folder(results: str | os.PathLike[str], run: RunIdentity) -> Path | None:
    """The folder in which products of a run appear.

    Args:
        results: folder of the products.
        run: see `Plan.made_with`.

    Returns:
        The results or `results.next`, made if it is not there; None where both have products of
        other runs.
    """
    folder = Path(os.path.realpath(results))
    for each in (folder, next_folder(folder)):
        if not (each / PRODUCTS_FILE).exists():
            with on_disk_of(folder.parent):
                each.mkdir(parents=True, exist_ok=True)
                write_json(each / RUN_FILE, run)
                write_json(each / PRODUCTS_FILE, {})
        if run_of(each) == run:
            return each
    return None


def publishing_name(results: str | os.PathLike[str], run: RunIdentity) -> str:
    """The name of the folder in which products of a run appear; nothing is made."""
    folder = Path(os.path.realpath(results))
    has_others = (folder / PRODUCTS_FILE).exists() and run_of(folder) != run
    return next_folder(folder).name if has_others else Path(results).name


def remove_other_next(results: str | os.PathLike[str], run: RunIdentity) -> None:
    """Remove `results.next` if a run with other settings left it."""
    folder = next_folder(results)
    if run_of(folder) not in (None, run):
        shutil.rmtree(folder, ignore_errors=True)


# Seconds without a sign of life; the child shows one every second while it works.
_TIMEOUT = 120.0


class PublishingProcess:
    """Publishes videos in a child process, so that the job itself needs no memory for tables.

    Args:
        part, settings, results: see `Publisher`.
        fingerprint: of the model.
    """

    def __init__(self, part: ShardPlan, settings: Settings, fingerprint: str, results: str | None):
        self._part = part
        self._is_wanted = results is not None and bool(part.made_with)
        level = logging.getLogger().level
        arguments = (part, settings, fingerprint, results or "", level)
        self._worker = Worker(partial(_start, *arguments))

    def publish(self, number: int) -> bool:
        """See `Publisher.publish`; also False when the child process fails."""
        return self._call(_publish, number)

    def is_published(self, number: int) -> bool:
        """See `Publisher.is_published`."""
        return self._call(_is_published, number, otherwise=True)

    def close(self) -> None:
        """End the child process."""
        self._worker.close()

    def __enter__(self) -> PublishingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(
        self, function: Callable[[int], bool], number: int, *, otherwise: bool = False
    ) -> bool:
        if not self._is_wanted:
            return otherwise
        try:
            return bool(self._worker.call(function, number, timeout=_TIMEOUT))
        except Exception as error:
            logger.warning("%s: not published yet: %s", self._part.videos[number].path, error)
            return otherwise


# The one of a child process.
_publisher: list[Publisher] = []


def _start(part: ShardPlan, settings: Settings, fingerprint: str, results: str, level: int) -> None:
    log_to_stderr(level)
    _publisher[:] = [Publisher(part, settings, fingerprint, results)]


def _publish(number: int) -> bool:
    with keep_reporting():
        return _publisher[0].publish(number)


def _is_published(number: int) -> bool:
    return _publisher[0].is_published(number)


class Publisher:
    """Publishes the videos that a shard job finishes.

    A video is published by the job that commits its last segment. Two jobs that do so at the same
    time write equal products. An error is logged, and left to the last stage, which makes the
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
        self._workers = Worker(partial(log_to_stderr, logging.getLogger().level))

    def publish(self, number: int) -> bool:
        """Publish a video if all of its segments are finished.

        Args:
            number: of the video, all of whose segments in this shard are finished.

        Returns:
            Whether it is published.
        """
        video = self._part.videos[number]
        try:
            outcome = self._outcome(number, video)
            if outcome is not None and (products := self._destination()) is not None:
                self._make(video, outcome, products)
                return True
        except Exception as error:
            with contextlib.suppress(Exception):
                reason = reason_for_video(error, video.path, "publishing", self._settings.cache)
                logger.warning("%s: not published yet: %s", video.path, reason)
                return False
            logger.warning("%s: not published yet: %r", video.path, error)
        return False

    def is_published(self, number: int) -> bool:
        """Whether the products of a video are noted in the folder where they appear."""
        if (products := self._destination()) is None:
            return True
        return self._names(self._part.videos[number]) <= products.table.keys()

    def _destination(self) -> PublishedProducts | None:
        folder = publishing_folder(self._results, self._part.made_with)
        if folder is None:
            return None
        if self._products is None or self._products.folder != folder:
            results = Path(os.path.realpath(self._results))
            writer = f"{self._part.stage}-{self._part.shard}"
            self._products = PublishedProducts(
                folder, writer, None if folder == results else results
            )
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
                for kind, metadata in zip(kinds, found, strict=True):
                    outcome.digests[kind, segment] = metadata["digest"]
        return outcome

    def _names(self, video: ProbedVideo) -> set[str]:
        names = {predictions_file(video.name)}
        if "video" in self._kinds and video.height > 0 and video.width > 0:
            names.add(video_file(video.name, self._settings.output.suffix))
        return names

    def _make(self, video: ProbedVideo, outcome: VideoOutcome, products: PublishedProducts) -> None:
        from pvio.pipeline.results.video_products import VideoProducts

        segments = [self._part.segments[number] for number in outcome.segments]
        maker = VideoProducts(self._settings, self._completion.keys, products, self._workers)
        maker.make_predictions(video, segments, outcome)
        if len(self._names(video)) > 1:
            maker.make_video(video, segments, outcome)
        logger.info("%s: published in %s", video.path, products.folder.name)
