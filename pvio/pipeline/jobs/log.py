"""Logs of jobs: their format, and the errors in them."""

from __future__ import annotations

import copy
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pvio.text import printable, printable_lines


def log_to_stderr(level: int) -> None:
    """Write log records from a level on to standard error, see `PlainFormatter`.

    So is the traceback of an exception that ends the process.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _print_exception


class PlainFormatter(logging.Formatter):
    """Formats records so that no name in them can imitate a line, or control a terminal.

    Arguments of a message are put on one line, with escapes. Further lines of the message itself,
    and of a traceback, are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line, with control characters escaped."""
        return printable_lines(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback, with control characters escaped."""
        return printable_lines(super().formatException(ei))

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        plain = copy.copy(record)
        plain.exc_text = None  # as another formatter may have left it
        if isinstance(record.args, tuple):
            plain.args = tuple(map(_plain, record.args))
        elif record.args:
            plain.args = {key: _plain(value) for key, value in record.args.items()}
        return super().format(plain)


def errors_of(folder: str | os.PathLike[str], since: float) -> Iterator[tuple[Path, str]]:
    """The errors with which jobs ended.

    Args:
        folder: of the jobs' logs.
        since: seconds since 1970 by the clock of its file system, see `file_system_time`; logs that
            were last written before are left out.

    Yields:
        Each log with an error, in the order of their names, and its text.
    """
    for path in sorted(Path(folder).rglob("*.log")):
        try:
            if path.stat().st_mtime < since:
                continue
            text = "\n" + path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        _, found, error = text.rpartition("\nError: ")
        if found:
            yield path, error.strip()


def file_system_time(folder: str | os.PathLike[str]) -> float:
    """The time by the clock of a file system, which may differ from that of this machine.

    Args:
        folder: where a file is made and removed; made if it is not there.

    Returns:
        Seconds since 1970, to be compared with times of files there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
        file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())
        return os.stat(file.name).st_mtime


def _plain(value: object) -> object:
    """An argument of a message, on one line; numbers are not changed."""
    return printable(value) if isinstance(value, (str, os.PathLike, BaseException)) else value


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable_lines(text.rstrip("\n")), file=sys.stderr)
