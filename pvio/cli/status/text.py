"""The text of `pvio status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvio.cli.status.compare import StageStatus, Status
from pvio.text import duration, printable

_SHOWN = 5


def describe(found: Status, cores: int) -> str:
    """The result of `status` as text.

    Args:
        found: by `status`.
        cores: on which the rest will run.
    """
    return "\n".join(map(printable, _lines(found, cores)))


def _lines(found: Status, cores: int) -> Iterator[str]:
    to_do = found.videos - found.finished - len(found.unreadable)
    yield (
        f"{found.videos} videos: {found.finished} finished, {to_do} to do, "
        f"{len(found.unreadable)} unreadable"
        + (f"; {found.not_indexed} are not indexed yet" if found.not_indexed else "")
    )
    for stage in found.stages:
        yield _stage_line(stage, cores, found.is_running)
    yield from _results_lines(found)
    for reason, paths in found.reasons.items():
        yield f"to do since {reason}: {_some(paths)}" if reason != "new" else f"new: {_some(paths)}"
    for path, reason in found.unreadable[:_SHOWN]:
        yield f"unreadable: {path}: {reason}"
    if len(found.unreadable) > _SHOWN:
        yield f"unreadable: {len(found.unreadable) - _SHOWN} more"
    if found.removed:
        removed = _some(found.removed)
        yield f"no longer in the collection, will be removed from the results: {removed}"
    if found.lost:
        yield f"lost from the results: {_some(found.lost)} (snakemake --forcerun assemble)"
    if found.is_running:
        yield "Snakemake is running in this folder, or was killed here (then: snakemake --unlock)"
    for log, error in found.failures:
        first, *rest = error.splitlines()
        yield f"failed, see {log}: {first}"
        yield from rest
    if not to_do and not found.failures and not found.lost:
        is_complete = found.published == found.finished and not found.has_other_settings
        yield "nothing to compute" if is_complete else "nothing to compute; the next run joins them"


def _results_lines(found: Status) -> Iterator[str]:
    """Lines on the folder of finished videos, unless all are in the results."""
    if found.has_other_settings:
        yield f"{found.results}/ has results of other settings, until all new ones are there"
    if found.where and (found.has_other_settings or found.published < found.finished):
        yield f"{found.where}/ has {found.published} of {found.finished} finished videos"
    elif found.published < found.finished:
        yield f"no folder has the results of the {found.finished} finished videos yet"
    if found.has_other_next:
        yield f"{found.results}.next/ is not of these settings; the next run removes what is pvio's"


def _stage_line(stage: StageStatus, cores: int, is_running: bool) -> str:
    text = (
        f"{stage.stage:6}  {stage.frames_done} of {stage.frames} frames, "
        f"{stage.segments_done} of {stage.segments} segments done"
    )
    left = stage.frames - stage.frames_done
    if left and is_running and stage.rate:
        text += f"; {stage.rate:.0f} frames/s, about {duration(left / stage.rate)} left"
    elif left:
        text += f"; about {duration(stage.seconds_left / cores)} on {cores} core(s)"
    return text


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
