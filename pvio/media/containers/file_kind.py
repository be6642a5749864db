"""Recognize files that are not videos by their first bytes."""

from __future__ import annotations

import codecs
import contextlib
import re
from pathlib import Path

from pvio.media.ffmpeg.container import refusal_reason

_N_BYTES = 4096
_CHUNK = 1 << 20
# By how they begin: https://en.wikipedia.org/wiki/List_of_file_signatures
_BEGINNINGS = {
    b"PK\x03\x04": "it is a ZIP archive",
    b"PK\x05\x06": "it is a ZIP archive",
    b"\x1f\x8b": "it is a gzip archive",
    b"BZh": "it is a bzip2 archive",
    b"\xfd7zXZ\0": "it is an xz archive",
    b"\x28\xb5\x2f\xfd": "it is a Zstandard archive",
    b"7z\xbc\xaf\x27\x1c": "it is a 7z archive",
    b"Rar!\x1a\x07": "it is a RAR archive",
    b"%PDF-": "it is a PDF document",
    b"version https://git-lfs.github.com/": "it is a Git LFS pointer: run git lfs pull",
    b"/annex/objects/": "it is a git-annex pointer: run git annex get",
}
_HTML = re.compile(
    rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", re.I | re.S
)
# Videos whose header is text, or begins with it.
_VIDEOS = (b"RIFF", b"RIFX", b"YUV4MPEG2", b"DKIF", b"OggS", b"FLV", b"MLVI", b".RMF")
_LEAST_TEXT = 5
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r\f\x1b"})


def describe_other_file(path: str) -> str:
    """Describe a file that is no video, such as "it is a PDF document"; "" if not known.

    A file that starts with zeros is read up to its first other byte.

    Args:
        path: of the file.
    """
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        first = file.read(_N_BYTES)
        if first.count(0) == len(first):
            while chunk := file.read(_CHUNK):
                if chunk.count(0) != len(chunk):
                    return ""
            return "it is empty of data: all zeros"
        return _what_begins_so(first)
    return ""


def _what_begins_so(first: bytes) -> str:
    for beginning, reason in _BEGINNINGS.items():
        if first.startswith(beginning):
            return reason
    if first[257:262] == b"ustar":
        return "it is a tar archive"
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"#EXTM3U"):
        return refusal_reason("hls")
    if _HTML.match(text):
        return "it is an HTML page"
    return "it is a text file" if _is_text(first) else ""


def _is_text(first: bytes) -> bool:
    """Whether there is no control character, and most is ASCII or all of it UTF-8 or UTF-16."""
    if first.startswith(_VIDEOS) or len(first) < _LEAST_TEXT:
        return False
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        even = first[: len(first) // 2 * 2]
        return all(each.isprintable() or each.isspace() for each in even.decode("utf-16", "ignore"))
    if len(first.translate(None, _CONTROLS)) < len(first):
        return False
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(first)  # the last character may be cut
        return True
    return sum(byte < 128 for byte in first) > 0.85 * len(first)
