"""The summary and the page while a run works, with the state of each video."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pvio.cache.atomic import temporary_name
from pvio.config.load import load_stored
from pvio.errors import PvioError
from pvio.layout import (
    JOURNAL_FOLDER,
    PLAN_FILE,
    PRODUCTS_FILE,
    PROGRESS_FOLDER,
    REPORT_FILE,
    STATES_SUFFIX,
    SUMMARY_FILE,
)
from pvio.pipeline.planning.manifest import Plan, read_plan
from pvio.pipeline.publishing.current import current_videos
from pvio.pipeline.publishing.folders import folder_of_run
from pvio.pipeline.results.product_table import (
    NewLines,
    append_note,
    journal_files,
    read_products,
)
from pvio.pipeline.results.snapshot import set_aside
from pvio.pipeline.results.summary import (
    SummaryRow,
    first_row,
    parse_summary,
    row_from_text,
    summary_table,
)

logger = logging.getLogger(__name__)

# The summary is written this often, the page less often; both less often where it takes long.
_SUMMARY_SECONDS, _PAGE_SECONDS = 4.0, 20.0
# At most one part in so many of the time.
_SHARE = 20
_FAILED = ("failed", "unreadable")


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
        self._results, self._since = results, since
        self._folder = Path(folder)
        self._states = _States(self._folder / PROGRESS_FOLDER, since)
        self._plan: Plan | None = None
        self._target: _Target | None = None
        self._rows: dict[str, SummaryRow] = {}
        self._lines = NewLines()
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
        self._states.read()
        if not self._states.has_begun:
            return True
        if self._target is None and not self._begin():
            return True
        if self._target is None or self._plan is None or self._target.is_replaced:
            return False
        self._read_rows(self._target.path)
        text = summary_table(self._row(n, is_running) for n in range(len(self._plan.videos)))
        self._write(self._target, SUMMARY_FILE, text)
        now = time.monotonic()
        if now >= self._next_page or not is_running:
            from pvio.pipeline.report import render_report  # takes a while

            page = render_report(parse_summary(text), self._plan, {})
            self._write(self._target, REPORT_FILE, page)
            self._next_page = now + max(_PAGE_SECONDS, _SHARE * (time.monotonic() - now))
        return True

    def _begin(self) -> bool:
        """Find out where videos appear, and what is there from before."""
        try:
            self._plan = plan = read_plan(self._folder / PLAN_FILE)
            settings, _ = load_stored(plan.made_with["settings"])
        except (PvioError, LookupError):
            return False
        folder = folder_of_run(self._results, plan.made_with)
        if folder is None:
            return False
        current = current_videos(self._results, plan.made_with, plan.videos, settings.output)
        try:
            old = parse_summary((folder / SUMMARY_FILE).read_bytes().decode())
            rows = [row_from_text(each) for each in old if each["name"] in current]
        except (OSError, ValueError, LookupError):
            rows = []
        self._rows = {row.name: row for row in rows if row.status in ("ok", "damaged")}
        self._read_rows(folder)
        self._rows = {name: row for name, row in self._rows.items() if name in current}
        self._target = _Target(folder)
        return True

    def _read_rows(self, folder: Path) -> None:
        """Read the lines of videos that were completed since."""
        for path in journal_files(folder):
            for line in self._lines.new(path) if path.suffix == ".jsonl" else ():
                if line.startswith(b'{"row": '):
                    row = SummaryRow(**json.loads(line)["row"])
                    self._rows[row.name] = row

    def _row(self, number: int, is_running: bool) -> SummaryRow:
        assert self._plan is not None
        video = self._plan.videos[number]
        if video.status != "ok":
            return first_row(video)
        if (row := self._rows.get(video.name)) is not None:
            return row
        state, reason = self._states.of(number)
        if state == "running" and not is_running:
            state = "waiting"
        return replace(first_row(video), status=state, reason=reason)

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


class _States:
    """What the jobs of a run note about their videos.

    Args:
        folder: with the files.
        since: earlier files are of other runs.
    """

    def __init__(self, folder: Path, since: float):
        self._folder, self._since = folder, since
        self._lines = NewLines()
        self._found: dict[Path, dict[int, tuple[str, str]]] = {}
        self._all: Mapping[int, tuple[str, str]] = {}

    @property
    def has_begun(self) -> bool:
        """Whether a job of the run has begun to compute."""
        return any(self._found.values())

    def of(self, video: int) -> tuple[str, str]:
        """State and reason of a video, by its number."""
        return self._all.get(video, ("waiting", ""))

    def read(self) -> None:
        """Read what is new."""
        for path in sorted(self._folder.glob(f"*/*{STATES_SUFFIX}")):
            try:
                status = path.stat()
            except OSError:
                continue
            if status.st_mtime < self._since:
                continue
            if not status.st_size:  # the job begins again
                self._found[path] = {}
            found = self._found.setdefault(path, {})
            for line in self._lines.new(path):
                try:
                    video, state, reason = json.loads(line)
                except ValueError:
                    continue
                if found.get(video, ("", ""))[0] not in _FAILED:
                    found[video] = state, reason
        merged: dict[int, tuple[str, str]] = {}
        for found in self._found.values():
            for video, state in found.items():
                if merged.get(video, ("", ""))[0] not in _FAILED:
                    merged[video] = state
        self._all = merged
