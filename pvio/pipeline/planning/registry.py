"""Which runs use a cache, so that what no run refers to can be told."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pvio.cache.atomic import write_json
from pvio.cache.digest import hash_key
from pvio.cache.store import Kind
from pvio.config.settings import Settings, dump_settings, load_stored
from pvio.errors import PvioError
from pvio.pipeline.planning.keys import Frames, predictions_key, video_key
from pvio.pipeline.planning.manifest import Plan, ProbedVideo, read_plan

_FOLDER = "runs"
_SECTIONS = ("cache", "segment_frames", "model", "decoder", "output")


@dataclass(frozen=True)
class Run:
    """The last plan of a working folder.

    Attributes:
        folder: absolute path of the working folder.
        host: on which it was planned.
        settings: it was made with; `videos` is not among them.
        model: `model_fingerprint` of the settings.
        plan_path: of a copy of the plan, beside the entries.
        unknown: keys of its settings that only another version of pvio knows.
    """

    folder: str
    host: str
    settings: Settings
    model: str
    plan_path: Path
    unknown: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """The plan.

        Raises:
            PvioError: when it cannot be read.
        """
        return read_plan(self.plan_path)


def register(plan_path: str | os.PathLike[str], plan: Plan, settings: Settings, model: str) -> None:
    """Note in the cache that a plan refers to its entries, in the place of an earlier one.

    Args:
        plan_path: where the plan is going to be; tells it from those of other folders.
        plan: the plan.
        settings: it was made with.
        model: `model_fingerprint` of the settings.
    """
    path = os.path.abspath(plan_path)
    host = socket.gethostname()
    file = Path(settings.cache) / _FOLDER / f"{hash_key(plan=path, host=host)}.json"
    facts = {"folder": os.getcwd(), "host": host, "model": model}
    # One file, so that plan and settings always belong together.
    write_json(
        file, {**asdict(plan), "run": facts | {"settings": dump_settings(settings, *_SECTIONS)}}
    )


def registered(cache: str | os.PathLike[str]) -> list[Run]:
    """The runs that use a cache.

    Whether a folder is gone for good, or its disk is away, or seen from another host alone, cannot
    be told from here: so runs stay until somebody forgets them.

    Raises:
        PvioError: when what a run needs cannot be told.
    """
    found = []
    for file in _files(cache):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))["run"]
            settings, unknown = load_stored(facts["settings"])
            run = Run(
                *(facts["folder"], facts["host"], settings, facts["model"], file, tuple(unknown))
            )
            found.append(run)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, PvioError) as error:
            raise PvioError(
                f"{file} cannot be understood ({error!r}), so that it cannot be told what "
                f"{_folder_of(file) or 'this run'} needs; another version of pvio may have written "
                "it. Run the workflow there again, or, when nobody needs that run any more, remove "
                "the file"
            ) from error
    return found


def forget_runs(cache: str | os.PathLike[str], folders: Iterable[str]) -> None:
    """Forget the runs of working folders, so that their entries may go.

    Raises:
        PvioError: when no run of a folder is known.
    """
    for folder in folders:
        path = os.path.abspath(folder)
        files = [file for file in _files(cache) if _folder_of(file) == path]
        if not files:
            raise PvioError(f"no run in {path} uses {cache}")
        for file in files:
            file.unlink(missing_ok=True)


def _files(cache: str | os.PathLike[str]) -> list[Path]:
    return sorted((Path(cache) / _FOLDER).glob("*.json"))


def _folder_of(file: Path) -> str:
    """The working folder that a file of any version is about; "" if it does not tell."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run"]["folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def entries_of(
    videos: list[ProbedVideo],
    segments: Iterable[tuple[int, Frames]],
    settings: Settings,
    model: str,
) -> Iterator[tuple[Kind, str]]:
    """The entries of the store that a run refers to.

    Args:
        videos: of the collection.
        segments: of all videos, each with the number of its video.
        settings: of the run.
        model: `model_fingerprint` of the settings.
    """
    for video in videos:
        if video.index_key:
            yield "index", video.index_key
    for number, segment in segments:
        facts = (videos[number], segment, settings, model)
        yield "predictions", predictions_key(*facts)
        if settings.output.video != "none":
            yield "video", video_key(*facts)
