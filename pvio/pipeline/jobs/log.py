"""The log of a job."""

from __future__ import annotations

import copy
import logging
import os
import sys
import traceback
from types import TracebackType
from typing import Any

from pvio.text import printable, printable_lines


def log_to_stderr(level: int) -> None:
    """Let everything that is logged from a level on appear on standard error, see `PlainFormatter`.

    So does the traceback of an exception that ends the process.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    sys.excepthook = _print_exception


class PlainFormatter(logging.Formatter):
    """Formats records so that no name in them can feign a line, or steer a terminal.

    What is put into a message is on one line, with escapes; further lines of the message itself,
    and of a traceback, are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable_lines(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return printable_lines(super().formatException(ei))

    def format(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.exc_text = None  # as another formatter may have left it
        if isinstance(record.args, tuple):
            plain.args = tuple(map(_plain, record.args))
        elif record.args:
            plain.args = {key: _plain(value) for key, value in record.args.items()}
        return super().format(plain)


def _plain(value: object) -> object:
    """What a message is made with, on one line; numbers and the like are formatted as they are."""
    return printable(value) if isinstance(value, (str, os.PathLike, BaseException)) else value


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable_lines(text.rstrip("\n")), file=sys.stderr)
