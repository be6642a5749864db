"""The products in a results folder: their list, and whether to keep or rewrite each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pvio.cache.atomic import write_json
from pvio.cache.digest import file_digest, hash_key
from pvio.errors import PvioError, on_disk_of
from pvio.layout import PRODUCTS_FILE
from pvio.pipeline.results.snapshot import Snapshot

# Stored for each product, by its name below the results: `key` of its inputs, `digest`, `size` and
# `mtime_ns` of its file, `remarks` (its warnings); or `failure`, the reason why it is missing.
ProductTable = dict[str, dict[str, Any]]


def read_products(results: Path) -> ProductTable:
    """The product table of the last run; empty without a finished run."""
    try:
        return require_products(results)
    except PvioError:
        return {}


def require_products(results: Path) -> ProductTable:
    """The product table of the last run.

    Raises:
        PvioError: when there is no finished run.
    """
    try:
        products = json.loads((results / PRODUCTS_FILE).read_text(encoding="utf-8"))
        if not isinstance(products, dict):
            raise ValueError(f"{PRODUCTS_FILE} is no table of products")
    except (OSError, ValueError) as error:
        raise PvioError(f"{results} has no results of a finished run: {error}") from error
    return {name: noted for name, noted in products.items() if isinstance(noted, dict)}


class Products:
    """The products of the next state of a results folder.

    Args:
        snapshot: the state that is made.
    """

    def __init__(self, snapshot: Snapshot):
        self._snapshot = snapshot
        self._before = read_products(snapshot.folder)
        self._made: ProductTable = {}

    def make(
        self, name: str, inputs: list[str], write: Callable[[Path], list[str] | None]
    ) -> list[str]:
        """Write a product unless the existing one was made from the same inputs.

        Args:
            name: below the results.
            inputs: all that it depends on.
            write: writes it to a path; returns warnings for the user, or None.

        Returns:
            The warnings, also of a product that is kept.
        """
        key = hash_key(inputs=inputs)
        noted = self._before.get(name, {})
        stamp = _stamp(self._snapshot.folder / name)
        if stamp and noted.get("key") == key and stamp.items() <= noted.items():
            self._snapshot.keep(name)
        else:
            path = self._snapshot.path(name)
            try:
                with on_disk_of(self._snapshot.folder):
                    warnings = write(path) or []
                noted = {"key": key, "digest": file_digest(path), "remarks": warnings}
                noted |= _stamp(path)
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
                self._made[name] = {"digest": file_digest(path), **_stamp(path)}
            write_json(self._snapshot.path(PRODUCTS_FILE), self._made)
        self._snapshot.publish({*self._before, *more, PRODUCTS_FILE})


def _stamp(path: Path) -> dict[str, int]:
    try:
        found = path.stat()
    except OSError:
        return {}
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
