"""`pvio watch`: the progress of a run that works in a folder, and the states of its videos."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pvio.layout import SNAKEMAKE_LOCKS
from pvio.pipeline.progress.line import describe
from pvio.pipeline.progress.overview import Forecast, Overview, OverviewReader
from pvio.pipeline.publishing.run_rows import RunRows
from pvio.pipeline.results.summary import SummaryRow
from pvio.text import printable

_SECONDS = 2.0
# States in the order of the table, and their colors.
_STATES = {
    "failed": "red",
    "unreadable": "red",
    "running": "cyan",
    "damaged": "yellow",
    "ok": "green",
    "waiting": "dim",
}
# Lines of a terminal that are not rows of videos: the text, the header, the counts, a free one.
_OTHER_LINES = 5
_ROWS_IN_A_LOG = 20


@dataclass
class View:
    """The run and its videos as shown at one time.

    Attributes:
        line: of progress; "" before the run has a plan.
        rows: of all videos; empty before a job has begun.
        is_running: whether Snakemake works in the folder.
    """

    line: str
    rows: Sequence[SummaryRow]
    is_running: bool


class Watcher:
    """Looks at the run of a working folder; it writes nothing.

    Args:
        results: folder of the products.
        folder: working folder of the run.
    """

    def __init__(self, results: str, folder: str = "."):
        self._results, self._folder = results, folder
        self._since = -1.0
        self._overviews = OverviewReader(folder, 0.0)
        self._rows = RunRows(results, 0.0, folder)
        self._forecast = Forecast()

    def look(self) -> View:
        """The present state."""
        since = self._started()
        if since != self._since and (since or self._since < 0):  # another run has begun
            self._since, self._forecast = since, Forecast()
            self._overviews = OverviewReader(self._folder, since)
            self._rows = RunRows(self._results, since, self._folder)
        is_running = since > 0
        overview = self._overviews.read()
        rows = self._rows.read(is_running=is_running) or []
        return View(self._line(overview, is_running), rows, is_running)

    def _line(self, overview: Overview | None, is_running: bool) -> str:
        if overview is None:
            return ""
        if not is_running:
            return f"{overview.finished:,} of {overview.videos:,} videos finished"
        now = time.monotonic()
        self._forecast.update(now, overview)
        return describe(overview, self._forecast, now)

    def _started(self) -> float:
        """When the run began that holds the lock of the folder; 0 without one."""
        times = []
        for path in Path(self._folder, SNAKEMAKE_LOCKS).glob("*.lock"):
            try:
                times.append(path.stat().st_mtime)
            except OSError:
                continue
        return min(times, default=0.0)


def watch(results: str, console: Console, *, once: bool = False) -> None:
    """Show the run of the working folder until it ends.

    On a terminal the view is renewed in place. Elsewhere it is printed once.

    Args:
        results: folder of the products.
        console: to print to.
        once: whether to print the view once.
    """
    watcher = Watcher(results)
    view = watcher.look()
    if once or not console.is_terminal:
        console.print(render(view, _ROWS_IN_A_LOG))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(render(view, max(1, console.height - _OTHER_LINES)), refresh=True)
            if not view.is_running:
                return
            time.sleep(_SECONDS)
            view = watcher.look()


def render(view: View, n_rows: int) -> Group:
    """A view as text and a table.

    Args:
        view: to show.
        n_rows: videos to show at most, those that failed or are at work first.
    """
    if not view.is_running:
        first = "no run works in this folder" + (f"; the last one: {view.line}" * bool(view.line))
    else:
        first = view.line or "the run has no plan yet"
    if not view.rows:
        return Group(Text(first))
    order = {state: number for number, state in enumerate(_STATES)}
    rows = sorted(view.rows, key=lambda row: order.get(row.status, 0))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("state")
    table.add_column("video", overflow="ellipsis", no_wrap=True)
    table.add_column("reason", overflow="ellipsis", no_wrap=True)
    for row in rows[:n_rows]:
        state = Text(row.status, style=_STATES.get(row.status, ""))
        table.add_row(state, Text(printable(row.name)), Text(printable(row.reason)))
    counts = Counter(row.status for row in view.rows)
    text = ", ".join(f"{counts[state]:,} {state}" for state in _STATES if counts[state])
    hidden = len(rows) - n_rows
    more = f"; {hidden:,} more videos are not shown" if hidden > 0 else ""
    return Group(Text(first), table, Text(text + more))
