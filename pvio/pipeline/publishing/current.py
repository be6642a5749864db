"""Videos that have their products: whole, of the file that is there now."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pvio.config.output import OutputSettings
from pvio.layout import predictions_file, video_file
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.publishing.folders import RunIdentity, folder_of_run
from pvio.pipeline.results.product_table import ProductTable, file_stamp, read_products

logger = logging.getLogger(__name__)

_SHOWN = 5


def product_names(video: ProbedVideo, output: OutputSettings) -> tuple[str, ...]:
    """The names of the products of a readable video, below the results."""
    if not output.makes_video or video.height <= 0 or video.width <= 0:
        return (predictions_file(video.name),)
    return predictions_file(video.name), video_file(video.name, output.suffix)


def current_videos(
    results: str | os.PathLike[str],
    run: RunIdentity,
    videos: Iterable[ProbedVideo],
    output: OutputSettings,
) -> set[str]:
    """The names of readable videos whose products are there.

    Args:
        results: folder of the products.
        run: see `Plan.made_with`.
        videos: of the collection.
        output: settings of the run.
    """
    if (folder := folder_of_run(results, run)) is None:
        return set()
    table, found = read_products(folder), set()
    for video in videos:
        try:
            if video.status == "ok" and all(
                _is_right(folder, name, table, video) for name in product_names(video, output)
            ):
                found.add(video.name)
        except Exception as error:
            reason_for_video(error, video.path, "looking up results of")
    return found


def describe_missing(
    results: str | os.PathLike[str],
    run: RunIdentity,
    videos: Sequence[ProbedVideo],
    output: OutputSettings,
) -> str:
    """A sentence that names the readable videos without results."""
    found = current_videos(results, run, videos, output)
    readable = [video.name for video in videos if video.status == "ok"]
    missing = [name for name in readable if name not in found]
    folder = folder_of_run(results, run)
    where = f" in {folder.name}/" if folder is not None else ""
    return f"{len(found)} of {len(readable)} videos have results{where}. Missing: {some(missing)}"


def some(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def remove_outdated(
    results: str | os.PathLike[str], run: RunIdentity, videos: Iterable[ProbedVideo]
) -> list[str]:
    """Remove products of files that were replaced since, from the folder of the same settings.

    A product there counts as one of the file that is there now. Files that cannot be read now keep
    theirs until the end of the run: their disk may be absent.

    Returns:
        Names of the products.
    """
    if (folder := folder_of_run(results, run)) is None:
        return []
    table, removed = read_products(folder), []
    digests = {video.name: video.digest for video in videos if video.status == "ok"}
    for name, noted in table.items():
        video = os.path.splitext(name.partition("/")[2])[0]
        is_of_other_file = noted.get("source", digests.get(video)) != digests.get(video)
        stamp = file_stamp(folder / name)
        if video in digests and is_of_other_file and stamp and stamp.items() <= noted.items():
            (folder / name).unlink(missing_ok=True)
            removed.append(name)
    if removed:
        logger.warning(
            "%d results of files that were replaced since are removed, and made again: %s",
            *(len(removed), some(removed)),
        )
    return removed


def _is_right(folder: Path, name: str, table: ProductTable, video: ProbedVideo) -> bool:
    noted, stamp = table.get(name, {}), file_stamp(folder / name)
    is_whole = bool(stamp) and stamp.items() <= noted.items()
    return is_whole and noted.get("source", video.digest) == video.digest
