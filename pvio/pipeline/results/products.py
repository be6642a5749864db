"""The products in a results folder: their table, and whether to keep or rewrite each."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pvio.cache.atomic import link_or_copy, temporary_name, write_json
from pvio.cache.digest import file_digest, hash_key
from pvio.errors import PvioError, on_disk_of
from pvio.layout import JOURNAL_FOLDER, PRODUCTS_FILE
from pvio.pipeline.results.snapshot import Snapshot

# Stored for each product, by its name below the results: `key` of its inputs, `digest`, `size` and
# `mtime_ns` of its file, `remarks` (its warnings); or `failure`, the reason why it is missing.
ProductTable = dict[str, dict[str, Any]]

# Writes a product to a path; returns warnings for the user, or None.
Write = Callable[[Path], list[str] | None]


def read_products(results: Path) -> ProductTable:
    """The product table of a folder; empty without one."""
    try:
        return require_products(results)
    except PvioError:
        return {}


def require_products(results: Path) -> ProductTable:
    """The product table of the last run, and what jobs published since.

    Raises:
        PvioError: when no run has published anything there.
    """
    try:
        table = json.loads((results / PRODUCTS_FILE).read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError(f"{PRODUCTS_FILE} is no table of products")
    except (OSError, ValueError) as error:
        raise PvioError(f"{results} has no results of a finished run: {error}") from error
    table = {name: noted for name, noted in table.items() if isinstance(noted, dict)}
    for name, noted in _journaled(results):
        if name not in table or file_stamp(results / name).items() <= noted.items():
            table[name] = noted
    return table


def product_key(inputs: list[str]) -> str:
    """The key of a product.

    Args:
        inputs: all that it depends on.
    """
    return hash_key(inputs=inputs)


def is_current(folder: Path, name: str, noted: Mapping[str, Any], key: str) -> bool:
    """Whether a product has this key, and its file is the one that was written then."""
    stamp = file_stamp(folder / name)
    return bool(stamp) and noted.get("key") == key and stamp.items() <= noted.items()


def file_stamp(path: Path) -> dict[str, int]:
    """Size and modification time of a file; empty without one."""
    try:
        found = path.stat()
    except OSError:
        return {}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def note_of(path: Path, key: str, warnings: list[str]) -> dict[str, Any]:
    """What is stored for a product that was just written."""
    return {"key": key, "digest": file_digest(path), "remarks": warnings, **file_stamp(path)}


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

    def make(self, name: str, inputs: list[str], write: Write) -> list[str]:
        """Write a product unless an existing one was made from the same inputs.

        Args:
            name: below the results.
            inputs: all that it depends on.
            write: see `Write`.

        Returns:
            The warnings, also of a product that is kept.
        """
        key = product_key(inputs)
        for folder, table in self._known:
            noted = table.get(name, {})
            if is_current(folder, name, noted, key):
                link_or_copy(folder / name, self._snapshot.path(name))
                break
        else:
            path = self._snapshot.path(name)
            try:
                with on_disk_of(self._snapshot.folder):
                    noted = note_of(path, key, write(path) or [])
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        self._made[name] = noted
        return list(noted["remarks"])

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
            write_json(self._snapshot.path(PRODUCTS_FILE), self._made)
        folder, before = self._known[0]
        published = {f"{JOURNAL_FOLDER}/{path.name}" for path in _journal_files(folder)}
        owned = {*before, *read_products(folder), *published, *more, PRODUCTS_FILE}
        self._snapshot.publish(owned)


def _keep_if_equal(old: Path, new: Path) -> None:
    """Take the old file if the content is the same: rules that read it do not run again."""
    if old.is_file() and not old.is_symlink() and filecmp.cmp(old, new, shallow=False):
        new.unlink()
        link_or_copy(old, new)


class PublishedProducts:
    """Products that appear one by one in a folder, where several jobs may publish at once.

    A product is written under a temporary name, noted in the journal of this job, and renamed.
    `require_products` reads the journals of all jobs.

    Args:
        folder: of the products.
        writer: name of this job, such as "infer-3-of-8".
        other: folder of which products with the same key are linked; None for none.
    """

    def __init__(self, folder: Path, writer: str, other: Path | None = None):
        self.folder, self._other = folder, other
        self.table = read_products(folder)
        self._linked = read_products(other) if other is not None else {}
        self._journal = folder / JOURNAL_FOLDER / temporary_name(writer).replace(".tmp", ".jsonl")

    def make(self, name: str, inputs: list[str], write: Write) -> list[str]:
        """See `Products.make`; the product is there when this returns."""
        key = product_key(inputs)
        noted = self.table.get(name, {})
        if is_current(self.folder, name, noted, key):
            return list(noted["remarks"])
        final = self.folder / name
        temporary = self._journal.parent / f"{temporary_name()}{final.suffix}"
        try:
            with on_disk_of(self.folder):
                temporary.parent.mkdir(parents=True, exist_ok=True)
                final.parent.mkdir(parents=True, exist_ok=True)
                noted = self._linked.get(name, {})
                if self._other is not None and is_current(self._other, name, noted, key):
                    link_or_copy(self._other / name, temporary)
                else:
                    noted = note_of(temporary, key, write(temporary) or [])
                # First the note: a file without one would be taken for one of the user's.
                with self._journal.open("a", encoding="utf-8") as journal:
                    journal.write(json.dumps({"name": name, **noted}) + "\n")
                os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
        self.table[name] = noted
        return list(noted["remarks"])


def _journal_files(results: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in (results / JOURNAL_FOLDER).iterdir() if path.is_file())
    return []


def _journaled(results: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and notes of published products; a line that was cut off is left out."""
    for path in _journal_files(results):
        if path.suffix != ".jsonl":
            continue
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError):
                    noted = json.loads(line)
                    yield noted.pop("name"), noted
