"""Files that several test processes need, made by the first that asks for them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this test run that all workers of xdist share."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    folder.mkdir(exist_ok=True)
    return folder


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """The path of a file that `make` writes when it is not there yet.

    Args:
        path: in a folder of `shared_folder`.
        make: called with another path, of the same ending, in that folder.
    """
    if not path.exists():
        with open(path.with_name(f".{path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                unfinished = path.with_name(f".unfinished-{path.name}")
                make(unfinished)
                os.replace(unfinished, path)
    return path
