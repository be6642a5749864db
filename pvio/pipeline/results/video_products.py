"""The products of one video: its predictions and its re-encoded video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

import pvio
from pvio.cache.entries import Cache
from pvio.cache.released import ReleasedSegments, released_product_key
from pvio.concurrency.child_process import Worker, WorkerPool
from pvio.config.settings import Settings
from pvio.errors import LostEntry
from pvio.layout import predictions_file, video_file
from pvio.media.encode.concat import EncodedSegment, concat_in_child
from pvio.pipeline.planning.completion import open_entry, read_entry
from pvio.pipeline.planning.keys import CacheEntry, ResultKeys
from pvio.pipeline.planning.manifest import PlannedSegment, ProbedVideo
from pvio.pipeline.planning.probed_video import check_unchanged, index_of
from pvio.pipeline.results.outcomes import VideoOutcome
from pvio.predictions.parquet import deserialize, write_merged


class Maker(Protocol):
    """Keeps or writes products: `Products` or `PublishedProducts`."""

    def make(
        self, name: str, source: str, inputs: list[str], write: Callable[[Path], list[str] | None]
    ) -> list[str]:
        """See `Products.make`."""
        ...

    def made(self, name: str) -> tuple[Path, str]:
        """Path and digest of a product that was made."""
        ...


class VideoProducts:
    """Makes the products of videos from their finished segments; several threads may call it.

    Args:
        settings: those with which the segments were computed.
        keys: the entries of the segments.
        products: receives the products.
        workers: concatenate segments, for which they read the source.
    """

    def __init__(
        self, settings: Settings, keys: ResultKeys, products: Maker, workers: Worker | WorkerPool
    ):
        self.keys = keys
        self._settings, self._products, self._workers = settings, products, workers
        self._cache = Cache(settings.cache)
        self._released = ReleasedSegments(self._cache)

    def make_predictions(
        self, video: ProbedVideo, segments: list[PlannedSegment], outcome: VideoOutcome
    ) -> None:
        """Make the table of a video.

        Args:
            video: of the plan.
            segments: all of it, in order.
            outcome: with the digests of their predictions.
        """
        self._products.make(
            predictions_file(video.name),
            video.digest,
            [
                *(video.path, video.digest, *outcome.digests_of("predictions")),
                *(self.keys.fingerprint, pvio.__version__),
            ],
            lambda path: self._write_predictions(video, segments, path),
        )

    def make_video(
        self, video: ProbedVideo, segments: list[PlannedSegment], outcome: VideoOutcome
    ) -> list[str]:
        """Make the re-encoded video.

        Args:
            video: of the plan.
            segments: all of it, in order.
            outcome: with the digests of their encoded frames.

        Returns:
            Warnings for the user.
        """
        digests = outcome.digests_of("video")
        entries = [self.keys.video(video, segment).key for segment in segments]
        product = released_product_key(video.digest, self._settings.output.suffix, digests)

        def write(path: Path) -> list[str]:
            warnings = self._released.restore(product, entries, path)
            if warnings is not None:
                return warnings
            return self._write_video(video, segments, path)

        name = video_file(video.name, self._settings.output.suffix)
        inputs = [video.path, video.digest, *digests]
        warnings = self._products.make(name, video.digest, inputs, write)
        self._released.release(product, *self._products.made(name), entries, warnings)
        return warnings

    def _write_predictions(
        self, video: ProbedVideo, segments: list[PlannedSegment], path: Path
    ) -> None:
        index = index_of(video, self._cache)
        entries = [self.keys.predictions(video, segment) for segment in segments]

        def tables() -> Iterator[pa.Table]:
            return (deserialize(read_entry(self._cache, entry)[0]) for entry in entries)

        metadata = {
            "source": video.path,
            "time_base": str(index.time_base),
            "rate": str(index.average_rate),
            "height": video.height,
            "width": video.width,
            "model": self._settings.model.model_dump(mode="json", exclude={"device"}),
            "model_fingerprint": self.keys.fingerprint,
            "pvio_version": pvio.__version__,
        }
        with path.open("wb") as file:  # pyarrow accepts only UTF-8 paths
            write_merged(file, tables, metadata)

    def _write_video(
        self, video: ProbedVideo, segments: list[PlannedSegment], path: Path
    ) -> list[str]:
        index = index_of(video, self._cache)
        self._check_not_released(video, segments)
        spans = [(each.start, each.stop, self.keys.video(video, each)) for each in segments]
        load = partial(_encoded_segments, self._cache, spans)
        check_unchanged(video, self._cache)  # its audio and metadata are copied
        timeout = self._settings.decoder_timeout
        warnings = concat_in_child(self._workers, load, index, path, timeout)
        check_unchanged(video, self._cache)
        return warnings

    def _check_not_released(self, video: ProbedVideo, segments: list[PlannedSegment]) -> None:
        """Check that all segments are there, now that their product cannot be used.

        Raises:
            LostEntry: when segments were released; all of them count as missing from now on.
        """
        if self._released.forget(self.keys.video(video, each).key for each in segments):
            reason = f"{video.path}: its encoded segments were replaced by a video that was changed"
            raise LostEntry(reason, "video")


def _encoded_segments(
    cache: Cache, spans: list[tuple[int, int, CacheEntry]]
) -> Iterator[EncodedSegment]:
    """The encoded segments of a video, one after the other."""
    for start, stop, entry in spans:
        with open_entry(cache, entry) as file:
            yield start, stop, file
