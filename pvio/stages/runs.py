"""Which runs use a cache, so that what no run refers to can be told."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pvio.config import Settings, dump_settings, load_settings
from pvio.errors import PvioError
from pvio.keys import Frames, predictions_key, video_key
from pvio.manifest import Plan, ProbedVideo, read_plan
from pvio.store import Kind, make_key, write_json

log = logging.getLogger(__name__)

_FOLDER = "runs"
_SECTIONS = ("cache", "segment_frames", "model", "decoder", "output")


@dataclass(frozen=True)
class Run:
    """The last plan of a working folder.

    Attributes:
        plan_path: absolute path of its plan.
        settings: it was made with; `videos` is not among them.
        model: `model_fingerprint` of the settings.
    """

    plan_path: str
    settings: Settings
    model: str

    def plan(self) -> Plan:
        """The plan.

        Raises:
            PvioError: when it cannot be read.
        """
        return read_plan(self.plan_path)


def register(plan_path: str | os.PathLike[str], settings: Settings, model: str) -> None:
    """Note in the cache that a plan refers to its entries, in the place of an earlier one.

    Args:
        plan_path: of the plan.
        settings: it was made with.
        model: `model_fingerprint` of the settings.
    """
    path = os.path.abspath(plan_path)
    text = dump_settings(settings, *_SECTIONS)
    file = Path(settings.cache) / _FOLDER / f"{make_key(plan=path)}.json"
    write_json(file, {"plan": path, "settings": text, "model": model})


def registered(cache: str | os.PathLike[str]) -> list[Run]:
    """The runs that use a cache; those whose plan is gone are forgotten.

    Raises:
        PvioError: when what a run needs cannot be told.
    """
    found = []
    for file in sorted((Path(cache) / _FOLDER).glob("*.json")):
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            path, model = facts["plan"], facts["model"]
            settings = load_settings(facts["settings"])
        except (OSError, ValueError, KeyError, PvioError) as error:
            raise PvioError(
                f"{file} cannot be understood ({error}), so that it cannot be told what this run "
                "needs. Remove the file when nobody needs the run any more"
            ) from error
        if os.path.exists(path):
            found.append(Run(path, settings, model))
        else:
            log.info("%s is gone: its run needs nothing any more", path)
            file.unlink(missing_ok=True)
    return found


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
