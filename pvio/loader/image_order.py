"""Folders of images for the data loader: which image is frame i."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pvio.collection.image_names import image_files

logger = logging.getLogger(__name__)


def sorted_images(folder: Path, pattern: str | None) -> list[Path]:
    """The images of a folder in the order of the frames.

    Which files are images is the same rule as in the workflow, see
    `pvio.collection.image_names`. The order by name is that of parallel-video-io 0.1.3, character
    by character; a warning says when it is not the workflow's natural order.

    Args:
        folder: holds one image per frame.
        pattern: regex whose one match in the file name is the frame number; None sorts by name.

    Raises:
        ValueError: when the pattern does not give exactly one integer for a file name.
    """
    files = [Path(file) for file in image_files(folder)]
    if pattern:
        return sorted(files, key=lambda file: frame_number(file.name, pattern))
    by_name = sorted(files, key=lambda file: file.name)
    if by_name != files:
        at = next(i for i, pair in enumerate(zip(by_name, files, strict=True)) if len({*pair}) > 1)
        logger.warning(
            '%s: images are sorted by name, so %s comes before %s; frame_sorting=r"(\\d+)" sorts '
            "them by the number in their names",
            *(folder, by_name[at].name, files[at].name),
        )
    return by_name


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
