r"""Text that comes from outside, such as names of files, for logs, terminals and tables.

A name may hold anything but "/" and NUL: line feeds that look like a new line of a log,
sequences that steer a terminal, bytes that are no text. They are written as escapes: `\n`, `\r`,
`\t`, `\x1B` for an ASCII character, `\xE9` for a byte that is no UTF-8, `\u2028` for others.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters, all that `str.splitlines` splits at, what turns the direction of writing, and
# surrogates, as which Python reads bytes that are no UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}
_LONG = {value: key for key, value in _SHORT.items()}
_ESCAPE = re.compile(r"\\(?:[tnr\\]|x[0-9A-F]{2}|u[0-9A-F]{4})")


def printable(text: object) -> str:
    """Text on one line, with escapes for what must not reach a terminal or a log as it is."""
    return UNPRINTABLE.sub(_escape, str(text))


def printable_lines(text: object) -> str:
    """Text of several lines, of which all but the first are indented.

    So no name can feign a line of its own, as the `Error: ` by which a failed job is explained.
    """
    first, *rest = str(text).split("\n")
    lines = [printable(first), *(_indented(printable(line)) for line in rest)]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text of a table's cell, see `unescaped`; backslashes are escaped as well.

    What a spreadsheet would take for a formula, or a reader of tables for an opening quote, is
    escaped, too: `=`, `+`, `-`, `@` and `"` at the start.
    """
    text = UNPRINTABLE.sub(_escape, text.replace("\\", "\\\\"))
    return f"\\x{ord(text[0]):02X}{text[1:]}" if text[:1] in ("=", "+", "-", "@", '"') else text


def unescaped(text: str) -> str:
    """The text that `escaped` was given."""
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def json_text(data: Any, **options: Any) -> str:
    """Readable JSON; names that are no UTF-8 are escaped, and read again as they are.

    `options` are those of `json.dumps`.
    """
    text = json.dumps(data, ensure_ascii=False, **options)
    return text if text.isascii() else _SURROGATE.sub(lambda each: f"\\u{ord(each[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xDC80 <= code <= 0xDCFF:  # a byte, see `os.fsdecode`
        return f"\\x{code - 0xDC00:02X}"
    return f"\\x{code:02X}" if code < 0x80 else f"\\u{code:04X}"


def _meant(match: re.Match[str]) -> str:
    escape = match[0]
    if escape in _LONG:
        return _LONG[escape]
    code = int(escape[2:], 16)
    return chr(code + 0xDC00 if escape[1] == "x" and code >= 0x80 else code)


def _indented(line: str) -> str:
    return line if line.startswith(" ") or not line else f"  {line}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: "80 s", "5 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
