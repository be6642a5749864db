"""Damage in the structure of a container: an early end, missing pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av.logging

from pvio.media.ffmpeg.log import LogMessage, is_side_information


def check_container(
    path: str, format_name: str, messages: list[LogMessage], n_incomplete: int
) -> str:
    """Description of damage in a container; "" if there is none.

    Args:
        path: the file.
        format_name: FFmpeg's name of the container.
        messages: logged by FFmpeg while all packets were read.
        n_incomplete: number of packets that FFmpeg marked as incomplete.
    """
    structure = ""
    with Path(path).open("rb") as file:
        if format_name.startswith("mov,"):
            structure = _mp4_damage(file)
        elif format_name == "avi":
            structure = _avi_damage(file)
    if structure:
        return structure
    logged = [
        " ".join(text.split())
        for level, component, text in messages
        if level <= av.logging.ERROR
        and component == format_name
        and not is_side_information(component, text)
    ]
    if logged:
        more = f" (and {len(logged) - 1} more)" if len(logged) > 1 else ""
        return f"its container is damaged: {logged[0]}{more}"
    return f"{n_incomplete} packet(s) are incomplete" if n_incomplete else ""


def _mp4_damage(file: BinaryIO) -> str:
    """ISO/IEC 14496-12: boxes follow each other to the end; fragments are numbered one by one."""
    last = None
    for kind, at, size, there in _boxes(file):
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            return f"its container is damaged: no box at byte {at}"
        if there < size:
            return _cut_off(at + there, at + size)
        if kind == b"moof" and (number := _fragment_number(file, at)) is not None:
            if last is not None and number > last + 1:
                return f"its container is damaged: {number - last - 1} fragment(s) are missing"
            last = number
    return ""


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, position, size, number of bytes present) of the boxes on the top level."""
    end = os.fstat(file.fileno()).st_size
    at = 0
    while at < end:
        file.seek(at)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        elif size == 0 and kind.isalnum():  # to the end of the file
            size = end - at
        if len(header) < 8 or size < 8:
            if not any(header) and not any(file.read(1 << 16)):
                return  # zeros after the last box
            kind, size = b"\0\0\0\0", end - at
        yield kind, at, size, min(size, end - at)
        at += size


def _fragment_number(file: BinaryIO, at: int) -> int | None:
    file.seek(at + 8)
    header = file.read(16)
    return int.from_bytes(header[12:16], "big") if header[4:8] == b"mfhd" else None


def _avi_damage(file: BinaryIO) -> str:
    """An AVI file is one or several RIFF chunks, each with its length."""
    end = os.fstat(file.fileno()).st_size
    at = 0
    while at + 12 <= end:
        file.seek(at)
        header = file.read(12)
        if header[:4] != b"RIFF":
            return ""  # something that does not belong to it
        size = int.from_bytes(header[4:8], "little")
        if size == 0:
            return "its recording was not ended properly: the header has no length"
        if at + 8 + size > end:
            return _cut_off(end, at + 8 + size)
        at += 8 + size + size % 2
    return ""


def _cut_off(there: int, promised: int) -> str:
    return f"it is cut off: {there} of {promised} bytes are there"
