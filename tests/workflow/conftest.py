"""Projects to run the workflow in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import BRIGHTNESS, REPOSITORY, Project


@pytest.fixture
def new_project(tmp_path: Path) -> Callable[[], Project]:
    """Makes a project with the model `brightness.py`."""

    def make() -> Project:
        (tmp_path / "brightness.py").write_text(BRIGHTNESS)
        return Project(tmp_path)

    return make


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The main job on the sample clips, run once, as from a terminal, and what was printed."""
    folder = tmp_path_factory.mktemp("samples run")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    project = Project(folder)
    with project.started() as process:
        output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, output + errors + project.logs()
    return project, output + errors
