"""Lists of videos: text files with an entry a line, and tables as spreadsheets write them."""

from __future__ import annotations

import codecs
import csv
import os
import re
from collections.abc import Sequence

from pvio.collection.folders import cannot_look_at
from pvio.errors import CollectionError

LIST_SUFFIXES = frozenset({".txt", ".tsv", ".csv"})
# What the column with the paths is called.
_HEADINGS = frozenset({"path", "paths", "file", "files", "filename", "video", "videos"})
_DELIMITERS = {".tsv": "\t", ".csv": ",;\t"}
_BLANKS = " \t\r"


def read_list(path: str) -> list[str]:
    """The entries of a list, unchanged.

    Of a table, those of the column `path`, `file` or `video`, or else of the first one. Lines are
    split at line feeds only: other characters that end lines may be part of a name. A line that is
    the name of a file as it stands is taken as it stands, whatever quotes and delimiters it has.

    Args:
        path: of a `.txt`, `.tsv` or `.csv` file, in UTF-8 or UTF-16; bytes that are neither stand
            for names that are neither.

    Raises:
        CollectionError: when it cannot be read, is no text, or has no entry.
    """
    lines = [line.rstrip("\r") for line in _text(path).split("\n")]
    base = os.path.dirname(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _DELIMITERS:
        entries = _column(path, lines, base, _DELIMITERS[suffix])
    else:
        entries = [_plain(line, base) for line in lines]
    entries = [_in_other_encoding(entry, base) for entry in entries if entry]
    if not entries:
        raise CollectionError(f"videos: the list {path!r} is empty")
    return entries


def line_of(path: str, entry: str) -> int | None:
    """The number of the first line, from 1 on, that has an entry; None where none is spelt so.

    Raises:
        CollectionError: when the list cannot be read.
    """
    lines = _text(path).split("\n")
    return next((number for number, line in enumerate(lines, 1) if entry in line), None)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise cannot_look_at(path, error) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        text = data.decode("utf-16", "replace")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise CollectionError(f"videos: {path!r} is no list: it is no text file")
    return text


def _plain(line: str, base: str) -> str:
    """The entry in a line of text: "" for a comment."""
    if _is_file(line, base):
        return line
    line = line.strip(_BLANKS)
    if line.startswith("#"):
        return ""
    if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'" and not _is_file(line, base):
        return line[1:-1]
    return line


def _column(path: str, lines: list[str], base: str, delimiters: str) -> list[str]:
    """The entries in a table."""
    if lines and re.fullmatch("sep=.", lines[0]):  # Excel's own
        delimiters, lines = lines[0][4], lines[1:]
    delimiter = _delimiter(lines, delimiters)
    # A line that is the name of a file as it stands needs no quotes.
    rows = (
        '"' + line.replace('"', '""') + '"\n'
        if "\t" not in line and _is_file(line, base)
        else f"{line}\n"
        for line in lines
    )
    reader = csv.reader(rows, delimiter=delimiter, strict=True)
    entries: list[str] = []
    column: int | None = None
    try:
        for row in reader:
            cells = [cell.strip(_BLANKS) for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if column is None:
                heading = None if _is_file(cells[0], base) else _heading(cells)
                column = heading or 0
                if heading is not None:
                    continue
            entries.append(cells[column] if column < len(cells) else "")
    except csv.Error as error:
        raise CollectionError(
            f"videos: the list {path!r} cannot be read, line {reader.line_num}: {error}. Of a "
            'name with quotes, write "the ""name"".mp4"'
        ) from error
    return entries


def _heading(row: Sequence[str]) -> int | None:
    """The column with the paths, if the row is a header."""
    cells = [cell.strip(_BLANKS).lower() for cell in row]
    return next((number for number, cell in enumerate(cells) if cell in _HEADINGS), None)


def _delimiter(lines: Sequence[str], among: str) -> str:
    """The delimiter after a name in the header, or else one that all lines have."""
    rows = [line for line in lines if line.strip(_BLANKS) and not line.startswith("#")]
    if len(among) == 1 or not rows:
        return among[0]
    for delimiter in among:
        header = next(csv.reader(rows[:1], delimiter=delimiter), [])
        if len(header) > 1 and _heading(header) is not None:
            return delimiter
    return next((each for each in among if each != "," and all(each in row for row in rows)), ",")


def _in_other_encoding(entry: str, base: str) -> str:
    """An entry that is no UTF-8 in Windows' encoding, if there is such a file and no other one."""
    if entry.isprintable() or _is_file(entry, base):
        return entry
    try:
        other = os.fsencode(entry).decode("cp1252")
    except UnicodeError:
        return entry
    return other if _is_file(other, base) else entry


def _is_file(entry: str, base: str) -> bool:
    try:
        return bool(entry) and os.path.lexists(os.path.join(base, os.path.expanduser(entry)))
    except ValueError:
        return False
