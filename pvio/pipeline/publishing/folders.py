"""The folder in which finished videos appear, and which files in it are pvio's.

That is `results` itself if it is new, or has products of the same settings. Otherwise the old
products stay whole, and the new ones appear in `results.next`, which replaces `results` at the end.
A folder of a run has a file that names the run. Other folders are not pvio's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from pvio.cache.atomic import remove_stale_temporaries, temporary_name, write_json
from pvio.errors import on_disk_of
from pvio.layout import JOURNAL_FOLDER, NEXT_SUFFIX, PRODUCTS_FILE, RUN_FILE
from pvio.pipeline.results.product_table import file_stamp, journal_files, read_products
from pvio.pipeline.results.snapshot import check_is_folder

logger = logging.getLogger(__name__)

RunIdentity = dict[str, Any]

# Endings of files of jobs in the folder of journals.
_NOTES = (".jsonl", ".lock")


def next_folder(results: str | os.PathLike[str]) -> Path:
    """The folder in which products of other settings appear; it is next to the results."""
    folder = Path(os.path.realpath(results))
    return folder.with_name(folder.name + NEXT_SUFFIX)


def run_of(folder: Path) -> RunIdentity | None:
    """Identity of the run that made the products of a folder; None for a folder that names none."""
    try:
        found = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def folder_of_run(results: str | os.PathLike[str], run: RunIdentity) -> Path | None:
    """The folder that has products of a run: the results, or `results.next`; None without one."""
    folder = Path(os.path.realpath(results))
    return next((each for each in (folder, next_folder(folder)) if run_of(each) == run), None)


def publishing_folder(results: str | os.PathLike[str], run: RunIdentity) -> Path | None:
    """The folder in which products of a run appear.

    Args:
        results: folder of the products.
        run: see `Plan.made_with`.

    Returns:
        The results or `results.next`, made if it is not there; None where the results have products
        of another run, and `results.next` is of a third run, or not pvio's.

    Raises:
        NotWritable: when `results` is a file, or its disk is read-only.
        OSError: when a folder cannot be made.
    """
    check_is_folder(results)
    folder, newer = Path(os.path.realpath(results)), next_folder(results)
    if run_of(folder) != run and not _has_products(folder):
        _claim(folder, run)
    if run_of(folder) == run:
        return folder
    if run_of(newer) is None:
        _claim_new(newer, run)
    return newer if run_of(newer) == run else None


def publishing_name(results: str | os.PathLike[str], run: RunIdentity) -> str:
    """The name of the folder in which products of a run appear; nothing is made."""
    folder = Path(os.path.realpath(results))
    has_others = _has_products(folder) and run_of(folder) != run
    return next_folder(folder).name if has_others else Path(results).name


def remove_other_next(results: str | os.PathLike[str], run: RunIdentity) -> None:
    """Remove what a run with other settings left in `results.next`; say if it is not pvio's."""
    folder = next_folder(results)
    found = run_of(folder)
    if found is not None and found != run:
        remove_products(folder)
    if run_of(folder) is None and _is_in_use(folder):
        logger.warning(
            "%s has files that pvio did not make, and is left as it is. Videos of new settings "
            "appear there only if it is empty or absent; otherwise they appear at the end",
            folder.name,
        )


def remove_products(folder: Path) -> None:
    """Remove the products of a folder, and the folder if nothing else is in it.

    Other files stay, and products that were changed after pvio wrote them.

    Args:
        folder: with a file that names its run.
    """
    for name, noted in read_products(folder).items():
        stamp = file_stamp(folder / name)
        is_unchanged = bool(stamp) and stamp.items() <= noted.items()
        _remove_file(folder, name, is_own=is_unchanged or "is_live" in noted)
    remove_stale_temporaries(folder / JOURNAL_FOLDER)
    remove_stale_temporaries(folder)
    for path in journal_files(folder):
        _remove_file(folder, f"{JOURNAL_FOLDER}/{path.name}", is_own=path.suffix in _NOTES)
    _remove_file(folder, f"{JOURNAL_FOLDER}/any", is_own=False)
    _remove_file(folder, PRODUCTS_FILE)
    _remove_file(folder, RUN_FILE)  # last: until then the folder is known to be pvio's
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_file(folder: Path, name: str, *, is_own: bool = True) -> None:
    """Remove a file if it is pvio's, and in any case the folders above it that are empty."""
    with contextlib.suppress(OSError):
        if is_own:
            (folder / name).unlink(missing_ok=True)
        for above in Path(name).parents[:-1]:
            (folder / above).rmdir()


def _has_products(folder: Path) -> bool:
    """Whether pvio has put anything into a folder, or an earlier version has."""
    if (folder / PRODUCTS_FILE).exists():
        return True
    journals = [path for path in journal_files(folder) if path.suffix == ".jsonl"]
    return any(file_stamp(path).get("size") for path in journals)


def _claim(folder: Path, run: RunIdentity) -> None:
    """Make a folder the one of a run; files of the user in it stay."""
    if folder.is_dir():
        with on_disk_of(folder):
            write_json(folder / RUN_FILE, run)
    else:
        _claim_new(folder, run)


def _claim_new(folder: Path, run: RunIdentity) -> None:
    """Make a folder of a run in one step, unless there is one that is not empty."""
    with on_disk_of(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = folder.with_name(temporary_name(f".{folder.name}"))
        try:
            made.mkdir()
            write_json(made / RUN_FILE, run)
            with contextlib.suppress(OSError):  # another job was faster, or it is not pvio's
                os.rename(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except NotADirectoryError:
        return True
    except OSError:
        return False
