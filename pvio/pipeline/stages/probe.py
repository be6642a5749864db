"""Stage 1: the frame index of every video of the collection, built where it is not in the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pvio.cache.entries import Cache
from pvio.cache.lookup import LOOKUP_THREADS
from pvio.collection.names import read_names
from pvio.collection.search import find_sources
from pvio.collection.sources import Source
from pvio.concurrency.child_process import WorkerPool
from pvio.config.settings import Settings
from pvio.errors import PvioError, UnreadableVideo
from pvio.media.index.cached import index_key, rebuild_index
from pvio.media.index.isolated import call_for_video
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.planning.probed_video import known_video, probed_row, unreadable_row

logger = logging.getLogger(__name__)

# If at least this many videos, and no others, fail with unexpected errors, the installation is the
# likely cause.
_TOO_MANY_ALIKE = 3


def probe(settings: Settings, threads: int = 1, results: str = "results") -> list[ProbedVideo]:
    """Probe the collection of the settings.

    A video with an error becomes `unreadable`, see `reason_for_video`.

    Args:
        settings: `videos`, `exclude`, `cache` and `decoder_timeout` matter.
        threads: videos indexed at the same time.
        results: folder of the products; videos keep the names that they have in it.

    Returns:
        One row per video, in the order of their paths; unreadable ones with a reason.

    Raises:
        CollectionError: when the setting finds no video at all.
        NotWritable: when the cache is read-only.
        PvioError: when every video fails with an unexpected error.
    """
    sources = find_sources(settings.videos, read_names(results), exclude=settings.exclude)
    cache = Cache(settings.cache)
    cache.prepare()
    rows: dict[Source, ProbedVideo] = {}
    with ProgressReport("probe", len(sources), "videos") as progress:
        with ThreadPoolExecutor(max(threads, LOOKUP_THREADS)) as pool:
            for source, row in zip(
                sources,
                pool.map(partial(known_video, cache=cache, compare=False), sources),
                strict=True,
            ):
                if row is not None:
                    rows[source] = row
                    progress.advance(1)
        new = [source for source in sources if source not in rows]
        unforeseen = 0
        for source, (row, foreseen) in zip(
            new, _indexed(new, cache, threads, settings.decoder_timeout), strict=True
        ):
            rows[source] = row
            unforeseen += not foreseen
            progress.advance(1)
    if unforeseen == len(sources) >= _TOO_MANY_ALIKE:
        raise PvioError(
            f"none of {len(sources)} videos can be indexed; the first one: "
            f"{rows[sources[0]].reason}. This looks like a problem of the installation: see "
            "`pvio doctor`. The existing results are unchanged"
        )
    return [rows[source] for source in sources]


def _indexed(
    sources: Sequence[Source], cache: Cache, threads: int, timeout: float
) -> Iterator[tuple[ProbedVideo, bool]]:
    """`_index` of each source, in order, in reused child processes."""
    if not sources:
        return
    prepare = partial(log_to_stderr, logging.getLogger().level)
    with WorkerPool(min(threads, len(sources)), prepare) as workers:
        index = partial(_index_in_child, workers=workers, cache=cache, timeout=timeout)
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(index, sources)


def _index_in_child(
    source: Source, workers: WorkerPool, cache: Cache, timeout: float
) -> tuple[ProbedVideo, bool]:
    try:
        found: tuple[ProbedVideo, bool] = call_for_video(
            workers, source.path, timeout, _index, source, cache
        )
        return found
    except UnreadableVideo as error:
        return unreadable_row(source, error.reason), True
    except Exception as error:
        reason = reason_for_video(error, source.path, "indexing", cache.root)
        return unreadable_row(source, reason), False


def _index(source: Source, cache: Cache) -> tuple[ProbedVideo, bool]:
    """The row of a video whose index is to be built and stored, or whose file is to be compared.

    The second value is False after an unexpected error.
    """
    try:
        if cache.has("index", index_key(source)):
            if (row := known_video(source, cache)) is not None:
                return row, True
            logger.warning(
                "%s: the index in the cache is damaged or belongs to another file", source.path
            )
        return probed_row(source, *rebuild_index(source, cache)[1:]), True
    except UnreadableVideo as error:
        return unreadable_row(source, error.reason), True
    except Exception as error:
        reason = reason_for_video(error, source.path, "indexing", cache.root)
        return unreadable_row(source, reason), False
