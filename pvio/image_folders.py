"""Folders of images for the data loader: which image is frame i."""

from __future__ import annotations

import re
from pathlib import Path


def sorted_images(folder: Path, pattern: str | None) -> list[Path]:
    """The files of a folder in the order of the frames; hidden files are left out.

    Args:
        folder: holds one image a frame.
        pattern: regex whose one match in the file name is the frame number; None sorts by name.

    Raises:
        ValueError: when the pattern does not give exactly one integer for a file name.
    """
    files = [file for file in folder.iterdir() if file.is_file() and file.name[0] != "."]
    if not pattern:
        return sorted(files, key=lambda file: file.name)
    return sorted(files, key=lambda file: frame_number(file.name, pattern))


def frame_number(filename: str, pattern: str | re.Pattern[str]) -> int:
    """The one integer that `pattern` captures in `filename`.

    Raises:
        ValueError: when there is no match, more than one, or one that is no integer.
    """
    matches = re.findall(pattern, filename)
    shown = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
    if len(matches) != 1:
        raise ValueError(
            f"the pattern {shown!r} has {len(matches)} matches in the file name {filename!r};"
            " expected exactly one"
        )
    try:
        return int(matches[0])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the pattern {shown!r} captures {matches[0]!r} in the file name {filename!r},"
            " which is no integer"
        ) from error
