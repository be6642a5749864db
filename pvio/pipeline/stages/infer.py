"""Stage 3: run the model over the segments of one shard."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pvio.cache.entries import Cache
from pvio.concurrency.threads import limit_torch
from pvio.config.settings import Settings
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import start_of_job
from pvio.pipeline.jobs.shard import Task, run_shard
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import Failures, Receipt, ShardPlan
from pvio.pipeline.publishing.process import PublishingProcess

if TYPE_CHECKING:
    from pvio.inference.engine import Engine


def infer(
    shard: ShardPlan,
    settings: Settings,
    threads: int = 1,
    failures: Failures | None = None,
    results: str | None = None,
    planned_at: float = float("inf"),
) -> Receipt:
    """Run the model over the segments of a shard that are not in the cache.

    PyTorch is imported, and the model loaded, only if a segment must be computed. With
    `output.video: frames` the frames that the model returns are encoded at the same time.

    Args:
        shard: the plan of the shard.
        settings: those of the plan.
        threads: for the model's operators on the CPU.
        failures: segments that are not tried.
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
    compute = Inference(settings, cache, threads)
    failed = {
        number: receipt.failure_reason
        for (stage, number), receipt in (failures or {}).items()
        if stage == "infer"
    }
    with PublishingProcess(shard, settings, keys.fingerprint, results) as publisher:
        return run_shard(shard, completion, settings, compute, failed, publisher, planned_at)


class Inference:
    """Runs the model over segments; loads it for the first one.

    Args:
        settings: see `infer`.
        cache: receives the results.
        threads: for the model's operators on the CPU.
    """

    def __init__(self, settings: Settings, cache: Cache, threads: int):
        self._settings, self._cache, self._threads = settings, cache, threads
        self._engine: Engine | None = None

    def __call__(self, task: Task) -> None:
        """See `Compute`."""
        if self._engine is None:
            self._engine = self._started()
        engine, cache = self._engine, self._cache
        from pvio.media.encode.model_frames import ModelFrameWriter
        from pvio.predictions.parquet import serialize

        how: dict[str, Any] = {"progress": task.progress, "isolated": task.isolated}
        metadata: dict[str, Any] = {"timeout": self._settings.decoder_timeout}
        predictions, *video = task.entries
        with contextlib.ExitStack() as stack:
            if video:
                file = stack.enter_context(cache.open_for_write(*video[0], metadata))
                with ModelFrameWriter(
                    file, task.index, task.segment.start, self._settings.output
                ) as sink:
                    result = engine.run_segment(task.index, *task.span, frame_sink=sink, **how)
            else:
                result = engine.run_segment(task.index, *task.span, **how)
            metadata |= result.metadata()
            task.check_source()
            cache.write(*predictions, serialize(result.table.table()), metadata)

    def _started(self) -> Engine:
        from pvio.inference.engine import Engine

        limit_torch(self._threads)
        with start_of_job():
            return Engine(self._settings)
