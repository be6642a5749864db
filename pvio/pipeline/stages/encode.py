"""Stage 4: draw the model's outputs on the segments of one shard, and encode them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pvio.cache.entries import Cache
from pvio.concurrency.threads import limit_torch
from pvio.config.settings import Settings
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import start_of_job
from pvio.pipeline.jobs.shard import Task, run_shard
from pvio.pipeline.planning.completion import Completion, read_entry
from pvio.pipeline.planning.keys import CacheEntry, ResultKeys
from pvio.pipeline.planning.manifest import Failures, PlannedSegment, Receipt, ShardPlan
from pvio.pipeline.publishing.process import PublishingProcess

if TYPE_CHECKING:
    from pvio.inference.overlay import OverlayRenderer


def encode(
    shard: ShardPlan,
    settings: Settings,
    failures: Failures | None = None,
    results: str | None = None,
    planned_at: float = float("inf"),
) -> Receipt:
    """Encode the overlay video of the segments of a shard that are not in the cache.

    Args:
        shard: the plan of the shard.
        settings: those of the plan and the predictions.
        failures: segments without predictions; the segments of their videos are not encoded.
        results: folder in which finished videos appear; None for no publishing.
        planned_at: see `run_shard`.

    Returns:
        The receipt, with the reasons of failed segments.

    Raises:
        FailedSegments, JobError: see `run_shard`.
    """
    cache = Cache(settings.cache)
    keys = ResultKeys(settings, model_fingerprint(settings.model))
    completion = Completion(keys, cache, settings.decoder_timeout)
    compute = Encoding(shard, settings, cache, keys)
    failed_videos = {
        shard.segments[number].video: receipt.failure_reason
        for (stage, number), receipt in (failures or {}).items()
        if stage == "infer" and number in shard.segments
    }
    failed = {
        number: failed_videos[video]
        for number in shard.segment_numbers
        if (video := shard.segments[number].video) in failed_videos
    }
    with PublishingProcess(shard, settings, keys.fingerprint, results) as publisher:
        return run_shard(shard, completion, settings, compute, failed, publisher, planned_at)


class Encoding:
    """Draws and encodes segments; loads the model for the first one.

    Args:
        shard, settings: see `encode`.
        cache: contains the predictions, and receives the videos.
        keys: of the entries.
    """

    def __init__(self, shard: ShardPlan, settings: Settings, cache: Cache, keys: ResultKeys):
        self._shard, self._settings, self._cache = shard, settings, cache
        self._keys = keys
        self._renderer: OverlayRenderer | None = None
        self._ending_at = {
            (segment.video, segment.stop): segment for segment in shard.segments.values()
        }

    def __call__(self, task: Task) -> None:
        """See `Compute`."""
        if self._renderer is None:
            from pvio.inference.overlay import OverlayRenderer

            limit_torch(1)
            with start_of_job():
                self._renderer = OverlayRenderer(self._settings)
        renderer = self._renderer
        began, spent = time.perf_counter(), time.process_time()
        metadata: dict[str, Any] = {"timeout": self._settings.decoder_timeout, "rows": {}}
        with self._cache.open_for_write(*task.entries[0], metadata) as file:
            rows = self._rows(task.segment, metadata["rows"])
            past = self._past_rows(task.segment, renderer.n_past_rows, metadata["rows"])
            metadata["skipped_reason"] = renderer.encode(
                file, task.index, *task.span, rows, task.progress, past, isolated=task.isolated
            )
            metadata["seconds"] = {
                "total": round(time.perf_counter() - began, 4),
                "cost": round(time.process_time() - spent, 4),
            }
            task.check_source()

    def _rows(self, segment: PlannedSegment, digests: dict[str, str]) -> list[dict[str, Any]]:
        video = self._shard.videos[segment.video]
        (entry,) = self._keys.needed_by("encode", video, segment)
        return read_rows(self._cache, entry, digests)

    def _past_rows(
        self, segment: PlannedSegment, n: int, digests: dict[str, str]
    ) -> list[dict[str, Any]]:
        """The last rows before a segment, up to `n`."""
        rows: list[dict[str, Any]] = []
        while len(rows) < n and segment.start > 0:
            segment = self._ending_at[segment.video, segment.start]
            rows = self._rows(segment, digests)[-(n - len(rows)) :] + rows
        return rows


def read_rows(cache: Cache, entry: CacheEntry, digests: dict[str, str]) -> list[dict[str, Any]]:
    """The predictions of a segment as one dict of NumPy arrays and scalars per frame.

    The digest of the entry is added to `digests`.
    """
    from pvio.predictions.columns import column_to_numpy
    from pvio.predictions.parquet import deserialize

    payload, metadata = read_entry(cache, entry)
    digests[entry.key] = metadata["digest"]
    table = deserialize(payload)
    columns = {name: column_to_numpy(table, name) for name in table.column_names}
    return [{name: values[i] for name, values in columns.items()} for i in range(table.num_rows)]
