"""Whether a segment is finished, and the entries of the cache that say so."""

from __future__ import annotations

import logging
from typing import Any

from pvio.cache.lookup import look_up
from pvio.cache.store import Store
from pvio.errors import LostEntry, StoreError
from pvio.layout import Kind
from pvio.pipeline.guard import concerns_all

log = logging.getLogger(__name__)

Entry = tuple[Kind, str]


Facts = dict[str, Any]


def read_entry(store: Store, kind: Kind, key: str) -> tuple[bytes, Facts]:
    """Payload and facts of an entry that an earlier stage committed.

    Raises:
        LostEntry: when it is lost or damaged; a damaged one is removed.
    """
    store.comes(kind, key)
    try:
        return store.read(kind, key)
    except StoreError as error:
        store.discard(kind, key)
        raise LostEntry(str(error), kind) from error


def finished_in_store(
    store: Store, entries: list[tuple[Entry, ...]], patience: float
) -> list[list[Facts] | None]:
    """`finished_entries` of every segment."""
    return look_up(lambda wanted: finished_entries(store, wanted, patience), entries)


def finished_entries(
    store: Store, wanted: tuple[Entry, ...], patience: float
) -> list[Facts] | None:
    """The facts of the entries of a segment; None when it is to be computed."""
    if not all(store.has(kind, key) for kind, key in wanted):
        return None
    try:
        facts = [store.info(*entry) for entry in wanted]
        is_current = all(
            store.info("predictions", key)["digest"] == digest
            for key, digest in facts[-1].get("rows", {}).items()
        )
        may_do_better = facts[-1]["given_up"] and facts[-1]["patience"] < patience
        is_complete = "total" in facts[-1]["seconds"]
    except StoreError as error:
        log.warning("%s; it is computed again", error)
        return None
    except Exception as error:  # written by another version
        if concerns_all(error, store.root):
            raise
        log.warning("an entry cannot be understood (%r); it is computed again", error)
        return None
    return facts if is_current and is_complete and not may_do_better else None
