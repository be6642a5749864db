"""The state of each video while a run works, from small files that jobs append to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pvio.config.load import load_stored
from pvio.errors import PvioError
from pvio.layout import PLAN_FILE, PROGRESS_FOLDER, STATES_SUFFIX, SUMMARY_FILE
from pvio.pipeline.planning.manifest import Plan, read_plan
from pvio.pipeline.publishing.current import current_videos
from pvio.pipeline.publishing.folders import folder_of_run
from pvio.pipeline.results.product_table import NewLines, journal_files
from pvio.pipeline.results.summary import SummaryRow, first_row, parse_summary, row_from_text

_FAILED = ("failed", "unreadable")


class RunRows:
    """The rows of the summary of a run that works.

    Args:
        results: folder of the products.
        since: start of the run, in seconds since 1970 by the clock of the file system.
        folder: working folder of the run.

    Attributes:
        plan: of the run, without segments, and
        folder: where its videos appear; both once `read` has returned rows.
    """

    plan: Plan
    folder: Path

    def __init__(self, results: str | os.PathLike[str], since: float, folder: str = "."):
        self._results = results
        self._working_folder = Path(folder)
        self._states = _States(self._working_folder / PROGRESS_FOLDER, since)
        self._rows: dict[str, SummaryRow] = {}
        self._lines = NewLines()
        self._has_begun = False

    def read(self, *, is_running: bool = True) -> list[SummaryRow] | None:
        """Read what is new.

        Args:
            is_running: whether jobs are at work; otherwise no video is `running`.

        Returns:
            A row for each video of the plan; None before a job of the run has begun.
        """
        self._states.read()
        if not self._states.has_begun:
            return None
        if not self._has_begun and not self._begin():
            return None
        self._read_rows(self.folder)
        return [self._row(number, is_running) for number in range(len(self.plan.videos))]

    def _begin(self) -> bool:
        """Find out where videos appear, and what is there from before."""
        try:
            plan = read_plan(self._working_folder / PLAN_FILE)
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
        # Of very many segments nothing is needed.
        self.plan = replace(plan, segments=[], infer_shards=[], encode_shards=[])
        self.folder, self._has_begun = folder, True
        return True

    def _read_rows(self, folder: Path) -> None:
        """Read the lines of videos that were completed since."""
        for path in journal_files(folder):
            for line in self._lines.new(path) if path.suffix == ".jsonl" else ():
                if line.startswith(b'{"row": '):
                    row = SummaryRow(**json.loads(line)["row"])
                    self._rows[row.name] = row

    def _row(self, number: int, is_running: bool) -> SummaryRow:
        video = self.plan.videos[number]
        if video.status != "ok":
            return first_row(video)
        if (row := self._rows.get(video.name)) is not None:
            return row
        state, reason = self._states.of(number)
        if state == "running" and not is_running:
            state = "waiting"
        return replace(first_row(video), status=state, reason=reason)


class _States:
    """Notes of the jobs of a run about their videos.

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
