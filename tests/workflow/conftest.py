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
    """The main job on the sample clips, run once, and what Snakemake printed."""
    folder = tmp_path_factory.mktemp("samples run")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    project = Project(folder)
    return project, project.run()
