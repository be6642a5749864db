"""Stage 1: the frame index of every video of the collection, built where it is not in the store."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from pvio.cache.lookup import LOOKUP_THREADS
from pvio.cache.store import Store
from pvio.collection.names import read_names
from pvio.collection.search import find_sources
from pvio.collection.sources import Source
from pvio.concurrency.timeout import keep_helper
from pvio.config.settings import Settings
from pvio.errors import PvioError, UnreadableVideo
from pvio.media.index.cached import index_key, rebuild_index
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.jobs.progress import ProgressReport
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.planning.probed_video import known_video, probed_row, unreadable_row

logger = logging.getLogger(__name__)

# New videos from which on starting processes pays.
_WORTH_PROCESSES = 100
# Videos that are handed to a process at once.
_CHUNK = 8
# So many videos, and no other, that cannot be indexed for reasons that no one foresaw are a fault
# of the installation.
_TOO_MANY_ALIKE = 3


def probe(settings: Settings, threads: int = 1, results: str = "results") -> list[ProbedVideo]:
    """Probe the collection of the settings.

    Whatever is raised for a video makes it `unreadable`, see `reason_for_video`.

    Args:
        settings: `videos` and `cache` matter.
        threads: videos indexed at the same time.
        results: folder of the products; videos keep the names that they have in it.

    Returns:
        One row per video, in the order of their paths; unreadable ones say why.

    Raises:
        CollectionError: when the setting leads to no video at all.
        NotWritable: when the cache is read-only.
        PvioError: when an error that no file explains is met at every video.
    """
    sources = find_sources(settings.videos, read_names(results))
    store = Store(settings.cache)
    store.prepare()
    rows: dict[Source, ProbedVideo] = {}
    with ProgressReport("probe", len(sources), "videos") as progress:
        with ThreadPoolExecutor(max(threads, LOOKUP_THREADS)) as pool:
            for source, row in zip(
                sources,
                pool.map(partial(known_video, store=store, compare=False), sources),
                strict=True,
            ):
                if row is not None:
                    rows[source] = row
                    progress.advance(1)
        new = [source for source in sources if source not in rows]
        unforeseen = 0
        for source, (row, foreseen) in zip(new, _indexed(new, store, threads), strict=True):
            rows[source] = row
            unforeseen += not foreseen
            progress.advance(1)
    if unforeseen == len(sources) >= _TOO_MANY_ALIKE:
        raise PvioError(
            f"none of {len(sources)} videos can be indexed; the first one: "
            f"{rows[sources[0]].reason}. This looks like a fault of the installation: see "
            "`pvio doctor`. The results stay as they are"
        )
    return [rows[source] for source in sources]


def _indexed(
    sources: Sequence[Source], store: Store, threads: int
) -> Iterator[tuple[ProbedVideo, bool]]:
    """`_index` of each source, in order; a source at which a process dies is unreadable."""
    index = partial(_index, store=store)
    done = 0
    while done < len(sources):
        try:
            with _pool(threads, len(sources)) as pool:
                for found in pool.map(index, sources[done:], chunksize=_CHUNK):
                    yield found
                    done += 1
        except BrokenProcessPool:
            logger.warning("a process died while it indexed videos: the next ones go one by one")
            # One of those that were in work when it died; the others of them are in the store.
            for source in sources[done : done + threads * _CHUNK]:
                yield _indexed_alone(source, store)
                done += 1


def _indexed_alone(source: Source, store: Store) -> tuple[ProbedVideo, bool]:
    """`_index` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, context, keep_helper) as pool:
            return pool.submit(_index, source, store).result()
    except BrokenProcessPool:
        logger.warning("%s: the process that indexed it died", source.path)
        reason = "the process that indexed it died: the file makes FFmpeg crash, or needs too much"
        return unreadable_row(source, f"{reason} memory"), True


def _pool(threads: int, n: int) -> Executor:
    """Processes where there is enough to do: indexing a small file is more Python than waiting."""
    if threads > 1 and n > _WORTH_PROCESSES:
        return ProcessPoolExecutor(threads, multiprocessing.get_context("spawn"), keep_helper)
    return ThreadPoolExecutor(threads, initializer=keep_helper)


def _index(source: Source, store: Store) -> tuple[ProbedVideo, bool]:
    """The row of a video whose index is to be built and stored, or whose file is to be compared.

    With it, whether all went as foreseen: the video can be read, or is known not to be readable.
    """
    try:
        if store.has("index", index_key(source)):
            if (row := known_video(source, store)) is not None:
                return row, True
            logger.warning("%s: its index in the cache is damaged or of another file", source.path)
        return probed_row(source, *rebuild_index(source, store)[1:]), True
    except UnreadableVideo as error:
        return unreadable_row(source, error.reason), True
    except Exception as error:
        reason = reason_for_video(error, source.path, "indexing", store.root)
        return unreadable_row(source, reason), False
