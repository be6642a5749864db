"""PNG files with side information that Pillow refuses as a whole, good or damaged."""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ANCILLARY = 0x20  # of a chunk's first letter: set where a decoder can do without the chunk
# Ancillary chunks that affect the pixels (alpha, orientation, animation), with their least sizes.
_LEAST_SIZES = {b"tRNS": 1, b"eXIf": 1, b"acTL": 8, b"fcTL": 26, b"fdAT": 4}


def strip_png_extras(data: bytes) -> bytes:
    """The file without its ancillary chunks, but for those of alpha, orientation and animation.

    Text, color profiles, gamma, resolution and the like change no pixel here. Of the chunks that
    are kept, those go whose checksum is wrong or that are too short.
    ISO/IEC 15948, 5.3: a chunk is length, type, content, and the CRC of type and content.

    Args:
        data: a whole PNG file; others come back as they are.
    """
    if not data.startswith(_SIGNATURE):
        return data
    at, kept = len(_SIGNATURE), [_SIGNATURE]
    least_sizes = dict(_LEAST_SIZES)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            break
        if kind == b"IHDR":
            # The color type determines the length of tRNS (11.3.1.1).
            color_type = data[at + 17 : at + 18]
            least_sizes[b"tRNS"] = {b"\0": 2, b"\2": 6}.get(color_type, 1)
        is_kept = not kind[0] & _ANCILLARY
        if size >= least_sizes.get(kind, end):
            checksum = int.from_bytes(data[end - 4 : end], "big")
            is_kept = zlib.crc32(memoryview(data)[at + 4 : end - 4]) == checksum
        if is_kept:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])
