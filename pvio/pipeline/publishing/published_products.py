"""Products that appear one by one in a folder, where several jobs may publish at once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pvio.cache.atomic import link_or_copy, remove_stale_temporaries, temporary_name
from pvio.errors import on_disk_of
from pvio.layout import JOURNAL_FOLDER
from pvio.pipeline.results.product_table import (
    Journals,
    append_line,
    append_note,
    is_current,
    note_of,
    product_key,
    read_products,
)
from pvio.pipeline.results.products import Write
from pvio.pipeline.results.snapshot import set_aside
from pvio.pipeline.results.summary import SummaryRow


class PublishedProducts:
    """Products of some videos in a folder.

    A product is written under a temporary name, noted in the journal of this job, and renamed.
    `read_products` reads the journals of all jobs.

    Args:
        folder: of the products.
        writer: name of this job, such as "infer-3-of-8".
        names: of all products that the job may make.
        other: folder of which products with the same key are linked; None for none.

    Attributes:
        n_made: number of products that were put into the folder.
    """

    def __init__(
        self, folder: Path, writer: str, names: Collection[str], other: Path | None = None
    ):
        self.folder, self._other, self.n_made = folder, other, 0
        self._n_noted = 0
        self._notes = folder / JOURNAL_FOLDER
        remove_stale_temporaries(self._notes)
        remove_stale_temporaries(folder)
        self._table = read_products(folder, names)
        self._journals = Journals(folder, names)
        self._linked = read_products(other, names) if other is not None else {}
        self._journal = self._notes / temporary_name(writer).replace(".tmp", ".jsonl")

    @contextlib.contextmanager
    def alone(self, video: str) -> Iterator[bool]:
        """A context in which no other job publishes a video; False where another one does.

        Nothing depends on the lock but time: two jobs that publish the same video write equal
        files.

        Args:
            video: name of its results.
        """
        with on_disk_of(self.folder):
            self._notes.mkdir(parents=True, exist_ok=True)
        name = hashlib.blake2b(video.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        path = self._notes / f"{name}.lock"
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:  # a file system without locks
                pass
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)

    def make(self, name: str, source: str, inputs: list[str], write: Write) -> list[str]:
        """See `Products.make`; the product is there when this returns."""
        key, final = product_key(inputs), self.folder / name
        if (noted := self._current(name, key)) is not None:
            return list(noted["remarks"])
        temporary = self._notes / f"{temporary_name()}{final.suffix}"
        try:
            with on_disk_of(self.folder):
                temporary.parent.mkdir(parents=True, exist_ok=True)
                final.parent.mkdir(parents=True, exist_ok=True)
                linked = self._linked.get(name, {})
                if self._other is not None and is_current(self._other, name, linked, key):
                    link_or_copy(self._other / name, temporary)
                    made = linked
                else:
                    made = note_of(temporary, key, source, write(temporary) or [])
                    _flush(temporary)
                if name not in self._table and final.exists():
                    self._journals.add_to(self._table)  # of a job that has the product, too
                if name not in self._table:
                    set_aside(final)
                # First the note: a file without one would be taken for one of the user's.
                append_note(self._journal, name, made)
                os.replace(temporary, final)
                self.n_made += 1
        finally:
            temporary.unlink(missing_ok=True)
        self._table[name] = made
        return list(made["remarks"])

    def _current(self, name: str, key: str) -> dict[str, Any] | None:
        """The note of a product that is there with a key.

        Journals of other jobs are read only where a file is there that this job does not know: with
        very many jobs this takes a while.
        """
        noted = self._table.get(name, {})
        if not is_current(self.folder, name, noted, key) and (self.folder / name).exists():
            self._journals.add_to(self._table)
            noted = self._table.get(name, {})
        return noted if is_current(self.folder, name, noted, key) else None

    def made(self, name: str) -> tuple[Path, str]:
        """Path and digest of a product that was made."""
        return self.folder / name, self._table[name]["digest"]

    def note_row(self, row: SummaryRow) -> None:
        """Note the line of a complete video, for the summary that is kept current."""
        if self.n_made > self._n_noted:
            append_line(self._journal, {"row": vars(row)})
        self._n_noted = self.n_made


def _flush(path: Path) -> None:
    """Write a file to the disk: one with a product's name is whole, also after a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
