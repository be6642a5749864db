"""The line on the terminal, or in the log, that shows the progress of a run of Snakemake."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from pvio.pipeline.progress.overview import Forecast, Overview, OverviewReader
from pvio.text import duration

# A terminal's line is renewed this often; with very many jobs less often, since all their files are
# looked at.
_SECONDS, _SECONDS_PER_JOB = 1.0, 0.01
# Lines in a log come at growing intervals.
_FIRST_SECONDS, _GROWTH, _LONGEST_SECONDS = 10.0, 1.5, 600.0
_CLEAR = "\r\x1b[2K"


def describe(found: Overview, forecast: Forecast, now: float) -> str:
    """The line for a state of the run."""
    text = f"{found.finished:,} of {found.videos:,} videos finished"
    if found.failed:
        text += f", {found.failed:,} failed"
    if (stage := found.current) is None:
        return text
    each = found.stages[stage]
    # What matters most comes first: a terminal may show no more than 80 characters.
    if (known := forecast.seconds_left(now, found)) is not None:
        left, last = known
        text += f", about {duration(left)} left" + (f" of {last}" if last else "")
    text += f"; {stage} {each.done:,} of {each.total:,} frames"
    rate = forecast.rate(stage)
    return f"{text}, {rate:,.0f} frames/s" if rate > 0 else text


def describe_start(found: Overview) -> str:
    """The first line: what is to be done, and where the results appear."""
    frames = max((each.total for each in found.stages.values()), default=0)
    left = found.videos - found.finished_before
    text = f"{found.videos:,} videos: {found.finished_before:,} finished before, {left:,} to do"
    if found.unreadable:
        text += f"; {found.unreadable:,} more are unreadable"
    if not found.has_old_plan:
        text += f" ({frames:,} frames)"
    return f"{text}. Finished videos appear in {found.where}/"


def describe_stop(found: Overview) -> str:
    """The last line of a run that was stopped, or that failed."""
    return (
        f"{found.finished:,} of {found.videos:,} videos are finished, in {found.where}/. The same "
        "command continues from there"
    )


def describe_end(rows: Iterable[Mapping[str, str]], report: str = "results/report.html") -> str:
    """The last line of a complete run.

    Args:
        rows: of the summary.
        report: path of the page.
    """
    counts = Counter(row["status"] for row in rows)
    states = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))
    return f"{sum(counts.values()):,} videos: {states}. See {report}"


def show_progress(
    since: float, handlers: Sequence[logging.Handler], where: str, products: Iterable[str]
) -> ProgressLine:
    """Show the progress of the run in the working folder on standard error.

    Args:
        since: when the run started, by the clock of the file system.
        handlers: of the logger that writes to the same terminal.
        where: see `OverviewReader`.
        products: see there, too.
    """
    line = ProgressLine(OverviewReader(".", since, where, products), handlers=handlers)
    line.start()
    return line


class ProgressLine:
    """Shows the progress of a run in a thread of its own until it is stopped.

    Args:
        reader: of the notes of all jobs.
        stream: of the terminal or log.
        handlers: log handlers that write to the same terminal; the line makes room for them.
    """

    def __init__(
        self,
        reader: OverviewReader,
        stream: TextIO | None = None,
        handlers: Sequence[logging.Handler] = (),
    ):
        self._reader = reader
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._forecast = Forecast()
        self._lock = threading.RLock()
        self._is_shown = False
        self._last: Overview | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pvio-progress-line", daemon=True)
        if self._is_terminal:
            for handler in handlers:
                if isinstance(handler, logging.StreamHandler):
                    self._make_room_for(handler)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, is_complete: bool = True) -> None:
        """End the thread, and remove the line from a terminal.

        Args:
            is_complete: whether the run ended well; otherwise a last line says what there is.
        """
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        with self._lock:
            self._clear()
        if not is_complete and self._last is not None:
            with contextlib.suppress(Exception):  # jobs may have published since
                self._last = self._reader.read() or self._last
            self._print(describe_stop(self._last))

    def _run(self) -> None:
        try:
            self._show()
        except Exception:  # the run does not depend on it
            logging.getLogger(__name__).debug("no progress can be shown", exc_info=True)

    def _show(self) -> None:
        interval, next_line = _FIRST_SECONDS, time.monotonic() + _FIRST_SECONDS
        is_first, last = True, ""
        while True:
            found = self._reader.read()
            now = time.monotonic()
            pause = _SECONDS
            if found is not None:
                self._last = found
                if is_first:
                    self._print(describe_start(found))
                    is_first = False
                self._forecast.update(now, found)
                jobs = sum(each.jobs for each in found.stages.values())
                pause = max(_SECONDS, _SECONDS_PER_JOB * jobs)
                if self._is_terminal:
                    self._renew(describe(found, self._forecast, now))
                elif now >= next_line and found.current is not None:
                    text = describe(found, self._forecast, now)
                    if text != last:
                        self._print(text)
                    last = text
                    interval = min(interval * _GROWTH, _LONGEST_SECONDS)
                    next_line = now + interval
            if self._stopped.wait(pause):
                return

    def _print(self, text: str) -> None:
        with self._lock:
            self._clear()
            print(f"pvio: {text}", file=self._stream, flush=True)

    def _renew(self, text: str) -> None:
        width = _columns(self._stream)
        with self._lock:
            self._stream.write(f"{_CLEAR}pvio: {text}"[: len(_CLEAR) + width - 1])
            self._stream.flush()
            self._is_shown = True

    def _clear(self) -> None:
        if self._is_shown:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._is_shown = False

    def _make_room_for(self, handler: logging.Handler) -> None:
        emit = handler.emit

        def emit_alone(record: logging.LogRecord) -> Any:
            with self._lock:
                self._clear()
                return emit(record)

        handler.emit = emit_alone  # type: ignore[method-assign]


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
