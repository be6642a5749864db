"""Where finished videos appear, one by one, while other jobs still compute.

That is in `results` itself if it is new, or has products of the same settings. Otherwise the old
products stay whole, and the new ones appear in `results.next`, which replaces `results` at the end.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from pvio.cache.atomic import write_json
from pvio.errors import on_disk_of
from pvio.layout import (
    NEXT_SUFFIX,
    PRODUCTS_FILE,
    RUN_FILE,
)

logger = logging.getLogger(__name__)

RunIdentity = dict[str, Any]


def next_folder(results: str | os.PathLike[str]) -> Path:
    """The folder in which products of other settings appear; it is next to the results."""
    folder = Path(os.path.realpath(results))
    return folder.with_name(folder.name + NEXT_SUFFIX)


def run_of(folder: Path) -> RunIdentity | None:
    """What the products of a folder are made with; None for a folder without products."""
    try:
        found = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def publishing_folder(results: str | os.PathLike[str], run: RunIdentity) -> Path | None:
    """The folder in which products of a run appear.

    Args:
        results: folder of the products.
        run: see `Plan.made_with`.

    Returns:
        The results or `results.next`, made if it is not there; None where both have products of
        other runs.
    """
    folder = Path(os.path.realpath(results))
    for each in (folder, next_folder(folder)):
        if not (each / PRODUCTS_FILE).exists():
            with on_disk_of(folder.parent):
                each.mkdir(parents=True, exist_ok=True)
                write_json(each / RUN_FILE, run)
                write_json(each / PRODUCTS_FILE, {})
        if run_of(each) == run:
            return each
    return None


def publishing_name(results: str | os.PathLike[str], run: RunIdentity) -> str:
    """The name of the folder in which products of a run appear; nothing is made."""
    folder = Path(os.path.realpath(results))
    has_others = (folder / PRODUCTS_FILE).exists() and run_of(folder) != run
    return next_folder(folder).name if has_others else Path(results).name


def remove_other_next(results: str | os.PathLike[str], run: RunIdentity) -> None:
    """Remove `results.next` if a run with other settings left it."""
    folder = next_folder(results)
    if run_of(folder) not in (None, run):
        shutil.rmtree(folder, ignore_errors=True)
