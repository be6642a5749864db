"""The environment that jobs of the workflow inherit from Snakemake."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import MutableMapping
from pathlib import Path

from pvio.errors import PvioError
from pvio.pipeline.jobs.signals import JOB_VARIABLE

COMMAND = "pvio"


def prepare_environment(environment: MutableMapping[str, str], *, own: bool = True) -> None:
    """Let jobs find the `pvio` of the Python that runs Snakemake, also without activation.

    Snakemake may be called by its path, as by cron or an IDE. Environments that are activated for
    the jobs alone, with `--sdm`, still come first.

    Args:
        environment: of this process; changed.
        own: whether jobs use the software of this process.

    Raises:
        PvioError: when they do, and `pvio` is not found.
    """
    environment.pop(JOB_VARIABLE, None)  # this Snakemake may itself have been started by a job
    path = environment.get("PATH", os.defpath)
    folder = _folder_of_command()
    if folder and path.split(os.pathsep)[0] != folder:
        environment["PATH"] = os.pathsep.join([folder, path])
    elif own and not folder and shutil.which(COMMAND, path=path) is None:
        raise PvioError(
            f"the command `{COMMAND}` is neither next to Snakemake's Python, {sys.executable}, nor "
            f"on the PATH; install it there: {sys.executable} -m pip install pvio (in a clone: "
            "pip install -e .)"
        )


def _folder_of_command() -> str:
    """The folder of the command that was installed for this Python; "" if there is none."""
    folders = [
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
    ]
    for folder in folders:
        command = Path(folder, COMMAND)
        if command.is_file() and os.access(command, os.X_OK):
            return folder
    return ""
