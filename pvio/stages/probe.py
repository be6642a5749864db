"""Stage 1: the frame index of every video of the collection, built where it is not in the store."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

from pvio.collection import Source, find_sources, read_names
from pvio.config import Settings
from pvio.errors import UnreadableVideo
from pvio.manifest import ProbedVideo
from pvio.media.index import facts_of_stored, index_anew, index_key
from pvio.media.time_limit import keep_helper
from pvio.progress import ProgressReport
from pvio.store import LOOKUP_THREADS, Store, StoreError

log = logging.getLogger(__name__)

# New videos from which on starting processes pays.
_WORTH_PROCESSES = 100


def probe(settings: Settings, threads: int = 1, results: str = "results") -> list[ProbedVideo]:
    """Probe the collection of the settings.

    Args:
        settings: `videos` and `cache` matter.
        threads: videos indexed at the same time.
        results: folder of the products; videos keep the names that they have in it.

    Returns:
        One row per video, in the order of their paths; unreadable ones say why.

    Raises:
        CollectionError: when the setting leads to no video at all.
        NotWritable: when the cache is read-only.
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
        with _pool(threads, len(new)) as pool:
            found = pool.map(partial(_index, store=store), new, chunksize=8)
            for source, row in zip(new, found, strict=True):
                rows[source] = row
                progress.advance(1)
    return [rows[source] for source in sources]


def _pool(threads: int, n: int) -> Executor:
    """Processes where there is enough to do: indexing a small file is more Python than waiting."""
    if threads > 1 and n > _WORTH_PROCESSES:
        return ProcessPoolExecutor(threads, multiprocessing.get_context("spawn"), keep_helper)
    return ThreadPoolExecutor(threads, initializer=keep_helper)


def known_video(
    source: Source, store: Store, *, renew: bool = True, compare: bool = True
) -> ProbedVideo | None:
    """The row of a video whose index is in the store, and of one that is not there at all.

    Args:
        source: the video.
        store: with indexes.
        renew, compare: see `facts_of_stored`.
    """
    try:
        return _row(source, *facts_of_stored(source, store, renew=renew, compare=compare))
    except StoreError:
        return None
    except UnreadableVideo as error:
        return _unreadable(source, error)


def _index(source: Source, store: Store) -> ProbedVideo:
    """The row of a video whose index is to be built and stored, or whose file is to be compared."""
    try:
        if store.has("index", index_key(source)):
            if (row := known_video(source, store)) is not None:
                return row
            log.warning("%s: its index in the cache is damaged or of another file", source.path)
        return _row(source, *index_anew(source, store)[1:])
    except UnreadableVideo as error:
        return _unreadable(source, error)


def _unreadable(source: Source, error: UnreadableVideo) -> ProbedVideo:
    return ProbedVideo(source.name, source.path, source.is_image_folder, "unreadable", error.reason)


def _row(source: Source, key: str, facts: dict[str, Any]) -> ProbedVideo:
    numerator, _, denominator = facts["rate"].partition("/")
    return ProbedVideo(
        name=source.name,
        path=source.path,
        is_image_folder=source.is_image_folder,
        index_key=key,
        digest=facts["content"],
        n_frames=facts["n_frames"],
        height=facts["height"],
        width=facts["width"],
        rate=int(numerator) / int(denominator or 1),
        duration=facts["duration"],
        codec=facts["codec"],
        pix_fmt=facts["pix_fmt"],
        damage=facts["damage"],
        warning=facts["warning"],
    )
