"""JPEG files with side information that Pillow refuses as a whole, or without their last bytes.

ITU-T T.81, B.1.1.4: a segment is a marker of two bytes, a length that counts its own two bytes, and
content.
"""

from __future__ import annotations

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_SCAN = 0xDA
_EXTRAS = (*range(0xE0, 0xF0), 0xFE)  # APPn and comments
_SEGMENTS = (*range(0xC0, 0xD0), *range(0xDA, 0xE0), *_EXTRAS)
# Extras that affect the pixels, by marker: their first bytes and their shortest length.
# JFIF and Adobe state the colors, EXIF the orientation.
_KEPT = {0xE0: (b"JFIF\0", 16), 0xE1: (b"Exif\0\0", 16), 0xEE: (b"Adobe", 14)}


def strip_jpeg_extras(data: bytes) -> bytes:
    """The file without its APPn segments and comments, but for valid ones about colors and EXIF.

    Of a segment whose length leads to no other segment, the next one is looked for.

    Args:
        data: a whole JPEG file; others come back as they are, and so do those in which a thumbnail
            could be taken for the image.
    """
    if not data.startswith(_START):
        return data
    at, kept = len(_START), [_START]
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        marker = data[at + 1]
        if marker == 0xFF:  # a byte that fills
            at += 1
            continue
        end = _end_of(data, at)
        if marker not in _EXTRAS:
            if not _is_segment(data, end):
                break
            kept.append(data[at:end])
        elif _is_segment(data, end):
            start, least = _KEPT.get(marker, (b"", 1 << 16))
            if end - at - 2 >= least and data.startswith(start, at + 4):
                kept.append(data[at:end])
        else:
            end = _next_segment(data, at + 2)
            if end < 0 or _START in data[at:end]:
                return data
        at = end
    return b"".join([*kept, data[at:]])


def lacks_end_marker(data: bytes) -> bool:
    """Whether a JPEG file has pixel data, but no end marker after them."""
    at = len(_START)  # segments are walked: thumbnails in them have scans and ends as well
    while data.startswith(_START) and _is_segment(data, at):
        if data[at + 1] == _SCAN:
            return data.find(_END, at) < 0
        at += 1 if data[at + 1] == 0xFF else _end_of(data, at) - at
    return False


def append_end_marker(data: bytes) -> bytes:
    """The file with an end marker after it, of which the first byte can be there."""
    return data.removesuffix(_END[:1]) + _END


def _end_of(data: bytes, at: int) -> int:
    return at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _is_segment(data: bytes, at: int) -> bool:
    start = data[at : at + 2]
    return len(start) == 2 and start[0] == 0xFF and (start[1] in _SEGMENTS or start[1] == 0xFF)


def _next_segment(data: bytes, at: int) -> int:
    """The start of the next segment that leads to another one; -1 for none."""
    while (at := data.find(b"\xff", at)) >= 0:
        if _is_segment(data, at) and data[at + 1] != 0xFF:
            is_scan = data[at + 1] == _SCAN
            if is_scan or _is_segment(data, _end_of(data, at)):
                return at
        at += 1
    return -1
