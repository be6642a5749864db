"""`pvio clean`: entries of the cache that no run refers to any more."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pvio.cache.atomic import remove_stale_temporaries
from pvio.cache.entries import Cache
from pvio.cache.released import ReleasedSegments
from pvio.cli.status.collection_state import current_state
from pvio.config.settings import Settings
from pvio.errors import CollectionError, ConfigError, ModelError, PvioError
from pvio.layout import KINDS, Kind
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.registry import registered_runs

# What is so young may belong to a run that is about to begin.
SECONDS_OF_GRACE = 600.0


@dataclass
class Unused:
    """Files that may go.

    Attributes:
        paths: of entries, by kind.
        sizes: bytes of all, by kind.
        kept: entries that are in use.
        young: entries that are kept since they were written within the last minutes.
        runs: working folders that use the cache.
    """

    paths: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[Kind, int] = field(default_factory=lambda: defaultdict(int))
    kept: int = 0
    young: int = 0
    runs: list[str] = field(default_factory=list)


def find_unused(
    settings: Settings, warn: Callable[[str], None], grace: float = SECONDS_OF_GRACE
) -> Unused:
    """Entries that neither the settings nor the last plan of any working folder refers to.

    Args:
        settings: of the working folder.
        warn: called with what could not be looked at.
        grace: entries that were written in so many seconds are kept.

    Raises:
        PvioError: when the entries that another run needs cannot be determined.
    """
    cache = Cache(settings.cache)
    used: set[tuple[Kind, str]] = set()
    runs = registered_runs(settings.cache)
    for run in runs:
        if run.unknown:
            warn(
                f"the run in {run.folder} was planned by another version of pvio, with settings "
                f"that this one does not know ({', '.join(run.unknown)}): what depends on them is "
                "not kept"
            )
        plan = run.plan()
        segments = ((segment.video, segment) for segment in plan.segments)
        used.update(ResultKeys(run.settings, run.model).all_entries(plan.videos, segments))
    try:
        state = current_state(settings)
    except (CollectionError, ConfigError, ModelError) as error:
        warn(
            "the current settings are invalid, so their cache entries are treated as unused: "
            f"{error}"
        )
    else:
        used.update(ResultKeys(settings, state.model).all_entries(state.videos, state.segments))
    used |= _released(cache, used)
    found = Unused(
        runs=[
            f"{run.folder} on {run.host}"
            + ("" if os.path.isdir(run.folder) else " (not seen from here)")
            for run in runs
        ]
    )
    now = time.time()
    for kind in KINDS:
        for folder in _folders(cache.root / kind):
            with os.scandir(folder) as entries:
                for entry in entries:
                    if (kind, entry.name) in used:
                        found.kept += 1
                        continue
                    with contextlib.suppress(OSError):
                        stat = entry.stat()
                        if now - stat.st_mtime > grace:
                            found.paths[kind].append(entry.path)
                            found.sizes[kind] += stat.st_size
                        else:
                            found.young += 1
    return found


def describe_unused(settings: Settings) -> str:
    """Describe what earlier settings left in the cache, and how to free it; "" for nothing."""
    try:
        found = find_unused(settings, lambda _: None, grace=-1.0)
    except (PvioError, OSError):
        return ""
    n_entries, n_bytes = sum(map(len, found.paths.values())), sum(found.sizes.values())
    if not n_entries:
        return ""
    return (
        f"earlier settings left {n_entries:,} entries ({n_bytes / 1e6:,.1f} MB) in "
        f"{settings.cache}; `pvio clean --unused` removes them"
    )


def remove(unused: Unused, settings: Settings) -> None:
    """Remove the entries of `find_unused`, and temporary files of killed jobs."""
    for paths in unused.paths.values():
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    remove_stale_temporaries(Cache(settings.cache).temporaries)


def _released(cache: Cache, used: set[tuple[Kind, str]]) -> set[tuple[Kind, str]]:
    """The entries that replace segments that are used."""
    released, found = ReleasedSegments(cache), set[tuple[Kind, str]]()
    for key in [key for kind, key in used if kind == "video"]:
        found.add(("released", key))
        if product := released.product_of(key):
            found.add(("product", product))
    return found


def _folders(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except OSError:
        return []
