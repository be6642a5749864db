"""Stage 1: the frame index of every video of the collection, built where it is not in the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from pvio.collection import Source, find_sources
from pvio.config import Settings
from pvio.errors import UnreadableVideo
from pvio.manifest import ProbedVideo
from pvio.media.index import index_key, load_index
from pvio.progress import ProgressReport
from pvio.store import Store, StoreError


def probe(settings: Settings, threads: int = 1) -> list[ProbedVideo]:
    """Probe the collection of the settings.

    Args:
        settings: `videos` and `cache` matter.
        threads: videos looked at at the same time.

    Returns:
        One row per video, in the order of their paths; unreadable ones say why.

    Raises:
        CollectionError: when the setting leads to no video at all.
    """
    sources = find_sources(settings.videos)
    store = Store(settings.cache)
    with (
        ProgressReport("probe", len(sources), "videos") as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        rows = []
        for row in pool.map(lambda source: probe_source(source, store), sources):
            rows.append(row)
            progress.advance(1)
    return rows


def probe_source(source: Source, store: Store) -> ProbedVideo:
    """One row of the table; a video whose index is in the store is not opened."""
    try:
        key = index_key(source)
        try:
            facts = store.info("index", key)
        except StoreError:
            load_index(source, store)
            facts = store.info("index", key)
    except UnreadableVideo as error:
        return ProbedVideo(
            source.name, source.path, source.is_image_folder, "unreadable", error.reason
        )
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
    )
