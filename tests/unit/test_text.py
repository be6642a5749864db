"""Names and other text from outside on its way to logs, terminals and tables."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pvio.pipeline.jobs.log import PlainFormatter
from pvio.pipeline.results.summary import SUMMARY_COLUMNS, SummaryRow, parse_summary, summary_table
from pvio.text import escaped, json_text, printable, printable_lines, unescaped

EVIL = "a\nError: call 0900-EVIL\x1b[2J\r\u2028\x85\u202e.mp4"
CONTROLS = set(map(chr, [*range(32), 127, *range(0x80, 0xA0), 0x2028, 0x2029, 0x202E]))


def any_name() -> st.SearchStrategy[str]:
    """Any name of a file: any bytes, decoded as Python decodes them."""
    odd = st.text(st.sampled_from('\\"=+-@\n\r\t\x0b\x0c\x1b\x85\u2028\u202exu1\udce9\udc85'))
    return st.one_of(st.binary().map(os.fsdecode), odd, st.text())


@given(any_name())
def test_a_cell_is_read_as_it_was_written(text: str):
    # No file has another name.
    assume(not any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in text))
    cell = escaped(text)
    assert unescaped(cell) == text
    assert not CONTROLS & set(cell)
    assert cell[:1] not in ("=", "+", "-", "@", '"')
    assert len(cell.splitlines()) <= 1
    cell.encode()


@given(any_name())
def test_printable_text_is_one_line_without_controls(text: str):
    assert not CONTROLS & set(printable(text))
    assert len(printable(text).splitlines()) <= 1
    printable(text).encode()


@given(any_name())
def test_json_keeps_any_name(text: str):
    assert json.loads(json_text({"name": text}).encode()) == {"name": text}


def test_ordinary_text_stays_as_it_is():
    for text in ("Mäuse 鼠.mp4", "a b", "👨‍👩‍👧 e\u0301", "a\\b"):
        assert printable(text) == text
    assert escaped("/data/Mäuse 鼠.mp4") == "/data/Mäuse 鼠.mp4"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "\\x3D1+1"),
        ("-dash", "\\x2Ddash"),
        ("@x", "\\x40x"),
        ('"a"', '\\x22a"'),
        ("caf\udce9", "caf\\xE9"),
        ("a\\b\tc\nd\re", "a\\\\b\\tc\\nd\\re"),
        ("u\u2028\x85", "u\\u2028\\u0085"),
        ("\\x41", "\\\\x41"),
    ],
)
def test_cells_are_escaped_as_the_docs_say(text: str, cell: str):
    assert escaped(text) == cell
    assert unescaped(cell) == text


def test_the_summary_has_a_line_per_video_whatever_they_are_called():
    rows = [
        SummaryRow(EVIL, f"/data/{EVIL}", "damaged", f"{EVIL}\t=1"),
        SummaryRow("-b", "/b", "ok"),
    ]
    text = summary_table(rows)
    assert len(text.splitlines()) == 3
    assert {line.count("\t") for line in text.splitlines()} == {len(SUMMARY_COLUMNS) - 1}
    found = parse_summary(text)
    assert [row["name"] for row in found] == [EVIL, "-b"]
    assert found[0]["path"] == f"/data/{EVIL}"
    assert found[0]["reason"] == f"{EVIL}\t=1"
    assert found[1]["duration"] == "0.0"


def test_further_lines_are_indented():
    assert printable_lines(f"3 failed:\n  {EVIL}\nmore") == (
        "3 failed:\n  a\n  Error: call 0900-EVIL\\x1B[2J\\r\\u2028\\u0085\\u202E.mp4\n  more"
    )


def logged(*arguments: object, error: BaseException | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    log.error(*arguments, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize("value", [EVIL, OSError(2, EVIL), ValueError(EVIL)])
def test_a_name_in_a_log_is_on_its_line(value: object):
    text = logged("%s: %d of %.1f", value, 3, 0.5)
    assert text.count("\n") == 1
    assert text.endswith(": 3 of 0.5\n")
    assert not (CONTROLS - {"\n"}) & set(text)


def test_a_name_in_a_message_or_traceback_feigns_no_line():
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        text = logged(f"made of {EVIL}", error=error)
    assert "Traceback" in text
    assert not (CONTROLS - {"\n"}) & set(text)
    assert "\nError: " not in text


def test_the_traceback_that_ends_a_process_feigns_no_line():
    imported = "from pvio.pipeline.jobs.log import log_to_stderr"
    code = f"{imported}\nlog_to_stderr(20)\nraise ValueError({EVIL!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    text = done.stderr.decode()
    assert "ValueError: a" in text
    assert "\nError: " not in text
    assert "\x1b" not in text
