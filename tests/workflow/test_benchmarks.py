"""The benchmarks of whole runs still run; those of parts do so in `.ci/run`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from projects import REPOSITORY, pvio_path


@pytest.mark.thorough
def test_the_benchmarks_of_whole_runs_run() -> None:
    command = [sys.executable, "-m", "benchmarks", "workflow", "--small", "--rounds=1"]
    done = subprocess.run(
        [*command, "--no-peers"], cwd=REPOSITORY, env=pvio_path(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "| workflow, one video of" in done.stdout
