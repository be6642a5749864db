"""The summary and the page while a run works, with the state of each video."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

from pvio.cache.atomic import temporary_name
from pvio.layout import JOURNAL_FOLDER, PRODUCTS_FILE, REPORT_FILE, SUMMARY_FILE
from pvio.pipeline.publishing.run_rows import RunRows
from pvio.pipeline.results.product_table import append_note, read_products
from pvio.pipeline.results.snapshot import set_aside
from pvio.pipeline.results.summary import parse_summary, summary_table

logger = logging.getLogger(__name__)

# The summary is written this often, the page less often; both less often where it takes long.
_SUMMARY_SECONDS, _PAGE_SECONDS = 4.0, 20.0
# At most one part in so many of the time.
_SHARE = 20


class LiveSummary:
    """Keeps `summary.tsv` and `report.html` current in the folder where videos appear.

    It starts when a job of the run has begun, and ends when the last stage replaces the folder. All
    is read from small files that jobs append to; nothing depends on it.

    Args:
        results: folder of the products.
        since: start of the run, in seconds since 1970 by the clock of the file system.
        folder: working folder of the run.
    """

    def __init__(self, results: str | os.PathLike[str], since: float, folder: str = "."):
        self._run_rows = RunRows(results, since, folder)
        self._target: _Target | None = None
        self._texts: dict[str, str] = {}
        self._next_page = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pvio-live-summary", daemon=True)

    def start(self) -> None:
        """Start a thread that writes."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was at work is waiting then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        self._update_safely(is_running=False)

    def _run(self) -> None:
        pause = _SUMMARY_SECONDS
        while not self._stopped.wait(pause):
            began = time.monotonic()
            if not self._update_safely():
                return
            pause = max(_SUMMARY_SECONDS, _SHARE * (time.monotonic() - began))

    def _update_safely(self, *, is_running: bool = True) -> bool:
        """See `update`; an error ends the thread, but not the run."""
        try:
            return self.update(is_running=is_running)
        except Exception:
            logger.debug("the summary cannot be kept current", exc_info=True)
            return False

    def update(self, *, is_running: bool = True) -> bool:
        """Write what has changed.

        Args:
            is_running: whether jobs are at work.

        Returns:
            Whether there may be more to write; False once the last stage has replaced the folder.
        """
        if self._target is not None and self._target.is_replaced:
            return False
        rows = self._run_rows.read(is_running=is_running)
        if rows is None:
            return True
        if self._target is None:
            self._target = _Target(self._run_rows.folder)
        text = summary_table(rows)
        self._write(self._target, SUMMARY_FILE, text)
        now = time.monotonic()
        if now >= self._next_page or not is_running:
            from pvio.pipeline.report import render_report  # takes a while

            page = render_report(parse_summary(text), self._run_rows.plan, {})
            self._write(self._target, REPORT_FILE, page)
            self._next_page = now + max(_PAGE_SECONDS, _SHARE * (time.monotonic() - now))
        return True

    def _write(self, target: _Target, name: str, text: str) -> None:
        if self._texts.get(name) != text:
            target.write(name, text)
            self._texts[name] = text


class _Target:
    """A folder of products; writes to it, and not to one that takes its name.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._journal = path / JOURNAL_FOLDER / temporary_name("summary").replace(".tmp", ".jsonl")
        self._own: set[str] = set()

    @property
    def is_replaced(self) -> bool:
        """Whether another folder has taken its name."""
        try:
            return not os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return True

    def write(self, name: str, text: str) -> None:
        """Write a text file so that it appears whole; a file that is not pvio's is set aside."""
        if name not in self._own:
            is_known = (self.path / PRODUCTS_FILE).exists()
            if not is_known and name not in read_products(self.path, {name}):
                set_aside(self.path / name)
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            append_note(self._journal, name, {"is_live": True})
            self._own.add(name)
        here, temporary = self._descriptor, temporary_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=here), "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        os.replace(temporary, name, src_dir_fd=here, dst_dir_fd=here)
