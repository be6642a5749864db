"""The runs that use a cache, to find entries that no run refers to."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pvio.cache.atomic import atomic_path
from pvio.cache.digest import hash_key
from pvio.config.load import dump_settings, load_stored
from pvio.config.settings import Settings
from pvio.errors import PvioError
from pvio.layout import RUNS_FOLDER
from pvio.pipeline.planning.manifest import Plan, read_plan
from pvio.text import json_text

_BLOCK = 1 << 20
_SECTIONS = ("cache", "segment_frames", "model", "decoder", "output")


@dataclass(frozen=True)
class RegisteredRun:
    """The last plan of a working folder.

    Attributes:
        folder: absolute path of the working folder.
        host: on which it was planned.
        settings: of the plan; `videos` is not among them.
        model: `model_fingerprint` of the settings.
        plan_path: of a copy of the plan, next to the entries.
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


def register(
    plan_file: str | os.PathLike[str],
    plan_path: str | os.PathLike[str],
    settings: Settings,
    model: str,
) -> None:
    """Register in the cache that a plan refers to its entries; it replaces an earlier plan.

    Args:
        plan_file: of the plan, written by `write_json`. It is copied as it is: a plan may be large,
            and a link would have the owner and the permissions of the working folder.
        plan_path: the final path of the plan; it identifies the working folder.
        settings: of the plan.
        model: `model_fingerprint` of the settings.

    Raises:
        PvioError: when the first file is not a plan.
        OSError: when it cannot be read, or the cache cannot be written.
    """
    path = os.path.abspath(plan_path)
    host = socket.gethostname()
    file = Path(settings.cache) / RUNS_FOLDER / f"{hash_key(plan=path, host=host)}.json"
    fields = {"folder": os.getcwd(), "host": host, "model": model}
    fields["settings"] = dump_settings(settings, *_SECTIONS)
    # One file, so that plan and settings always belong together: the plan with one more field.
    with (
        open(plan_file, "rb") as source,
        atomic_path(file) as temporary,
        temporary.open("wb") as target,
    ):
        if source.read(1) != b"{":
            raise PvioError(f"{plan_file} is not a plan")
        target.write(f'{{"run": {json_text(fields)}, '.encode())
        shutil.copyfileobj(source, target, _BLOCK)


def registered_runs(cache: str | os.PathLike[str]) -> list[RegisteredRun]:
    """The runs that use a cache.

    A missing folder may be deleted, on a disk that is not mounted, or visible only from another
    host. So runs stay registered until a user forgets them.

    Raises:
        PvioError: when the entries that a run needs cannot be determined.
    """
    found = []
    for file in _files(cache):
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))["run"]
            settings, unknown = load_stored(fields["settings"])
            run = RegisteredRun(
                *(fields["folder"], fields["host"], settings, fields["model"], file, tuple(unknown))
            )
            found.append(run)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, PvioError) as error:
            raise PvioError(
                f"{file} cannot be parsed ({error!r}), so pvio cannot determine which cache "
                f"entries {_folder_of(file) or 'this run'} uses; another version of pvio may have "
                "written it. Run the workflow there again, or delete the file if the run is no "
                "longer needed"
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
    return sorted((Path(cache) / RUNS_FOLDER).glob("*.json"))


def _folder_of(file: Path) -> str:
    """The working folder in a file of any version; "" if it is missing."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["run"]["folder"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
