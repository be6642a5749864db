"""The products in a results folder: their list, and those that are kept or made again."""

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

# What is noted of each product, by its name below the results: `key` of its inputs, `digest`,
# `size` and `mtime_ns` of its file, `remarks`; or the `failure` for which it is not there.
ProductTable = dict[str, dict[str, Any]]


def read_products(results: Path) -> ProductTable:
    """What the last run noted of its products; nothing where there are none of a finished run."""
    try:
        return require_products(results)
    except PvioError:
        return {}


def require_products(results: Path) -> ProductTable:
    """What the last run noted of its products.

    Raises:
        PvioError: when there are none of a finished run.
    """
    try:
        products = json.loads((results / PRODUCTS_FILE).read_text(encoding="utf-8"))
        if not isinstance(products, dict):
            raise ValueError(f"{PRODUCTS_FILE} is no table of products")
    except (OSError, ValueError) as error:
        raise PvioError(f"{results} holds no results of a finished run: {error}") from error
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
        """Write a product unless the one that is there was made from the same inputs.

        Args:
            name: below the results.
            inputs: all that it depends on.
            write: writes it to a path; returns remarks for the user, or None.

        Returns:
            The remarks, also of a product that was there before.
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
                    remarks = write(path) or []
                noted = {"key": key, "digest": file_digest(path), "remarks": remarks}
                noted |= _stamp(path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        self._made[name] = noted
        return list(noted["remarks"])

    def note_failure(self, name: str, reason: str) -> None:
        """Note why a product is not there; it is left out, if it was made."""
        self.withdraw(name)
        self._made[name] = {"failure": reason}

    def withdraw(self, name: str) -> None:
        """Leave a product out, if it was made."""
        self._made.pop(name, None)
        with contextlib.suppress(OSError):
            (self._snapshot.next / name).unlink(missing_ok=True)

    def publish(self, more: Mapping[str, Callable[[Path], None]]) -> None:
        """Let the products, and some that are always written, take the place of the old ones.

        Args:
            more: by name, what writes them.
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
