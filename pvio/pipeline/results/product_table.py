"""Content of a results folder: a table of products, and journals of those published since.

The table has one product per line, so that a job reads only the lines of its own videos.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pvio.cache.atomic import write_text
from pvio.cache.digest import file_digest, hash_key
from pvio.errors import PvioError
from pvio.layout import JOURNAL_FOLDER, PRODUCTS_FILE
from pvio.text import json_text

# Stored for each product, by its name below the results: `key` of its inputs, `source`, the digest
# of its video, `digest`, `size` and `mtime_ns` of its file, `remarks` (its warnings); or `failure`,
# the reason why it is missing.
ProductTable = dict[str, dict[str, Any]]

_JOURNAL_SUFFIX = ".jsonl"
# Where a line of the table, or of a journal, has the name of the product.
_TABLE_LINE, _JOURNAL_LINE = b"", b'{"name": '


def read_products(results: Path, names: Collection[str] | None = None) -> ProductTable:
    """The product table of a folder, and what jobs published since; empty without one.

    Args:
        results: the folder.
        names: of the products that are wanted; None for all.
    """
    table: ProductTable = {}
    with contextlib.suppress(OSError, ValueError):
        table = _read_table(results / PRODUCTS_FILE, names)
    Journals(results, names).add_to(table)
    return table


def require_products(results: Path) -> ProductTable:
    """The product table of the last run, and what jobs published since.

    Raises:
        PvioError: when no run has finished there.
    """
    try:
        table = _read_table(results / PRODUCTS_FILE, None)
    except (OSError, ValueError) as error:
        raise PvioError(f"{results} has no results of a finished run: {error}") from error
    Journals(results).add_to(table)
    return table


def write_products(path: Path, table: ProductTable) -> None:
    """Write a product table."""
    lines = [f"{json_text(name)}: {json_text(noted)}" for name, noted in table.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


class Journals:
    """Notes of all jobs that publish in a folder; each is read once.

    Args:
        results: the folder.
        names: of the products that are wanted; None for all.
    """

    def __init__(self, results: Path, names: Collection[str] | None = None):
        self._results, self._wanted = results, _encoded(names)
        self._lines = NewLines()

    def add_to(self, table: ProductTable) -> None:
        """Add what was noted since the last call, where the file is still the one that was noted.

        A line that was cut off is left out.
        """
        for path in journal_files(self._results):
            if path.suffix != _JOURNAL_SUFFIX:
                continue
            for line in self._lines.new(path):
                if not _is_wanted(line, _JOURNAL_LINE, self._wanted):
                    continue
                with contextlib.suppress(ValueError, KeyError, AttributeError, TypeError):
                    noted = json.loads(line)
                    name = noted.pop("name")
                    stamp = file_stamp(self._results / name)
                    if name not in table or (stamp and stamp.items() <= noted.items()):
                        table[name] = noted


class NewLines:
    """Reads files that others append to; each line once."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}

    def new(self, path: Path) -> Iterator[bytes]:
        """The lines since the last call; none of a file that cannot be read."""
        with contextlib.suppress(OSError), path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._read.get(path, 0):  # it was begun again
                self._read[path] = 0
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self._read[path] = self._read.get(path, 0) + len(line)
                yield line


def journal_files(results: Path) -> list[Path]:
    """Files of jobs that published in a folder: journals, and locks."""
    with contextlib.suppress(OSError):
        return sorted(path for path in (results / JOURNAL_FOLDER).iterdir() if path.is_file())
    return []


def append_note(journal: Path, name: str, noted: Mapping[str, Any]) -> None:
    """Add the note of a product to a journal, on the disk when this returns."""
    append_line(journal, {"name": name, **noted})


def append_line(journal: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a journal, see `append_note`."""
    with journal.open("ab") as file:
        file.write((json_text(line) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


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


def note_of(path: Path, key: str, source: str, warnings: list[str]) -> dict[str, Any]:
    """Note that is stored for a product that was just written.

    Args:
        path: of its file.
        key: of its inputs.
        source: digest of its video.
        warnings: about it, for the user.
    """
    found = {"key": key, "source": source, "digest": file_digest(path), "remarks": warnings}
    return {**found, **file_stamp(path)}


def _read_table(path: Path, names: Collection[str] | None) -> ProductTable:
    """A table as `write_products`, or an earlier version of pvio, wrote it.

    Raises:
        OSError, ValueError: when it cannot be read.
    """
    wanted = _encoded(names)
    with path.open("rb") as file:
        if wanted is None or file.readline() != b"{\n":
            file.seek(0)
            table = json.loads(file.read())
        else:
            lines = (line.rstrip(b",\n") for line in file if _is_wanted(line, _TABLE_LINE, wanted))
            table = json.loads(b"{" + b",".join(lines) + b"}")
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} is no table of products")
    return {
        name: noted
        for name, noted in table.items()
        if isinstance(noted, dict) and (names is None or name in names)
    }


def _encoded(names: Collection[str] | None) -> set[bytes] | None:
    return None if names is None else {json_text(name).encode() for name in names}


def _is_wanted(line: bytes, before: bytes, wanted: set[bytes] | None) -> bool:
    """Whether a line has one of the wanted names; it begins with some text before the name."""
    if wanted is None:
        return True
    start = len(before)
    end = start
    while (end := line.find(b'"', end + 1)) > 0:  # quotes within a name are escaped
        backslashes = end - len(line[:end].rstrip(b"\\"))
        if backslashes % 2 == 0:
            return line[start : end + 1] in wanted
    return False
