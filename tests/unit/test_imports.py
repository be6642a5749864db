"""What importing costs: jobs that find everything done must not wait for torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pvio

HEAVY = ("torch", "torchcodec", "av", "snakemake")


def loaded_by(statement: str) -> set[str]:
    """Which of `HEAVY` a new Python has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    return set(done.stdout.split())


def test_importing_pvio_loads_nothing_heavy():
    assert loaded_by("import pvio") == set()


def test_importing_pvio_is_quick():
    code = (
        "import time; began = time.process_time(); import pvio; print(time.process_time() - began)"
    )
    command = [sys.executable, "-c", code]
    seconds = [float(subprocess.check_output(command, text=True)) for _ in range(5)]
    assert min(seconds) < 0.1


@pytest.mark.parametrize(
    "module",
    [
        "config.settings",
        "collection",
        "errors",
        "cache.entries",
        "pipeline.planning.keys",
        "models.entry",
    ],
)
def test_modules_that_the_workflow_looks_at_load_nothing_heavy(module: str):
    assert loaded_by(f"import pvio.{module}") == set()


@pytest.mark.parametrize(
    "module", ["pipeline.stages.infer", "pipeline.stages.encode", "pipeline.stages.plan", "cli"]
)
def test_stages_load_torch_only_when_there_is_work(module: str):
    assert "torch" not in loaded_by(f"import pvio.{module}")


@pytest.mark.parametrize("name", pvio.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(pvio, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pvio.no_such_name


def test_only_pvio_run_imports_snakemake(repository: Path):
    for path in set((repository / "pvio").rglob("*.py")) - {repository / "pvio/cli/run.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            assert not any(name.split(".")[0] == "snakemake" for name in names), path
