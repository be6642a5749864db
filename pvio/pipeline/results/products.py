"""The products of a results folder that is replaced as a whole: each is kept or written."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Callable, Mapping
from pathlib import Path

from pvio.cache.atomic import link_or_copy
from pvio.cache.digest import file_digest
from pvio.errors import on_disk_of
from pvio.layout import JOURNAL_FOLDER, PRODUCTS_FILE, RUN_FILE
from pvio.pipeline.results.product_table import (
    ProductTable,
    file_stamp,
    is_current,
    journal_files,
    note_of,
    product_key,
    read_products,
    write_products,
)
from pvio.pipeline.results.snapshot import Snapshot

# Writes a product to a path; returns warnings for the user, or None.
Write = Callable[[Path], list[str] | None]


class Products:
    """The products of the next state of a results folder.

    Args:
        snapshot: the state that is made.
        others: other folders whose products may be taken over, such as `results.next`.
    """

    def __init__(self, snapshot: Snapshot, *others: Path):
        self._snapshot = snapshot
        self._known = [(each, read_products(each)) for each in (snapshot.folder, *others)]
        self._made: ProductTable = {}

    def make(self, name: str, source: str, inputs: list[str], write: Write) -> list[str]:
        """Write a product unless an existing one was made from the same inputs.

        Args:
            name: below the results.
            source: digest of its video.
            inputs: all that it depends on, the digest too.
            write: see `Write`.

        Returns:
            The warnings, also of a product that is kept.
        """
        key = product_key(inputs)
        for folder, table in self._known:
            noted = table.get(name, {})
            if is_current(folder, name, noted, key):
                link_or_copy(folder / name, self._snapshot.path(name))
                noted = noted | {"source": source}  # earlier versions did not store it
                break
        else:
            path = self._snapshot.path(name)
            try:
                with on_disk_of(self._snapshot.folder):
                    noted = note_of(path, key, source, write(path) or [])
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        self._made[name] = noted
        return list(noted["remarks"])

    def made(self, name: str) -> tuple[Path, str]:
        """Path and digest of a product that was made."""
        return self._snapshot.path(name), self._made[name]["digest"]

    def note_failure(self, name: str, reason: str) -> None:
        """Note why a product is missing; it is removed if it was made."""
        self.withdraw(name)
        self._made[name] = {"failure": reason}

    def withdraw(self, name: str) -> None:
        """Remove a product, if it was made."""
        self._made.pop(name, None)
        with contextlib.suppress(OSError):
            (self._snapshot.next / name).unlink(missing_ok=True)

    def publish(self, more: Mapping[str, Callable[[Path], None]]) -> None:
        """Replace the old products by the new ones, and by some that are always written.

        Args:
            more: functions that write the latter, by name.
        """
        with on_disk_of(self._snapshot.folder):
            for name, write in more.items():
                path = self._snapshot.path(name)
                write(path)
                _keep_if_equal(self._snapshot.folder / name, path)
                self._made[name] = {"digest": file_digest(path), **file_stamp(path)}
            write_products(self._snapshot.path(PRODUCTS_FILE), self._made)
        folder, before = self._known[0]
        published = {f"{JOURNAL_FOLDER}/{path.name}" for path in journal_files(folder)}
        owned = {*before, *read_products(folder), *published, PRODUCTS_FILE, RUN_FILE}
        if (folder / PRODUCTS_FILE).exists():  # earlier versions did not list these
            owned.update(more)
        self._snapshot.publish(owned)


def _keep_if_equal(old: Path, new: Path) -> None:
    """Take the old file if the content is the same: rules that read it do not run again."""
    if old.is_file() and not old.is_symlink() and filecmp.cmp(old, new, shallow=False):
        new.unlink()
        link_or_copy(old, new)
