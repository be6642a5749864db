"""PNG files with damage beside the picture, which Pillow refuses as a whole."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20  # of a chunk's first letter: set where a decoder can do without the chunk


def sound_part(path: str | os.PathLike[str]) -> bytes | None:
    """A PNG file without its broken extras; None when it is no PNG file, or has none."""
    with Path(path).open("rb") as file:
        start = file.read(len(_SIGNATURE))
        if start != _SIGNATURE:
            return None
        data = start + file.read()
    kept = without_broken_extras(data)
    return kept if len(kept) < len(data) else None


def without_broken_extras(data: bytes) -> bytes:
    """The file without its ancillary chunks, such as text and EXIF, whose checksums are wrong.

    ISO/IEC 15948, 5.3: a chunk is length, type, content, and the CRC of type and content.

    Args:
        data: a whole PNG file; others come back as they are.
    """
    if not data.startswith(_SIGNATURE):
        return data
    at, kept = len(_SIGNATURE), [_SIGNATURE]
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        checksum = int.from_bytes(data[end - 4 : end], "big")
        is_extra = bool(data[at + 4] & _ANCILLARY)
        if not is_extra or zlib.crc32(memoryview(data)[at + 4 : end - 4]) == checksum:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])
