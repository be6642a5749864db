"""Other ways to run the workflow: another executor, and as a module of another workflow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import REPOSITORY, Project, make_clip, pvio_path

SUBMIT = """#!/bin/sh
# Stands for a scheduler: runs the script in the background, elsewhere than its caller.
setsid sh "$1" >"$1.out" 2>&1 &
echo $!
"""
LAB = """
configfile: "lab.yaml"


module pvio:
    snakefile:
        "{repository}/workflow/Snakefile"
    config:
        config["pvio"]


use rule * from pvio as pvio_*


rule means:
    input:
        "work/assembled",
    output:
        "means.tsv",
    default_target: True
    script:
        "means.py"
"""
MEANS = """
from pathlib import Path
import pvio

with open(snakemake.output[0], "w") as file:
    for path in sorted(Path("results/predictions").rglob("*.parquet")):
        rows = pvio.read_predictions(path)
        print(path.stem, len(rows["time"]), sep="\\t", file=file)
"""
SETTINGS = {
    "videos": ["clips"],
    "segment_frames": 10,
    "model": {"entry": "brightness.py:Brightness"},
    "output": {"video": "none"},
}


@pytest.fixture
def project(new_project: Callable[[], Project], tmp_path: Path) -> Project:
    made = new_project()
    make_clip(tmp_path / "clips/a.mp4", frames=40, options="-g 10")
    make_clip(tmp_path / "clips/b.mp4", frames=20, options="-g 10")
    return made


def test_the_generic_cluster_executor_runs_the_workflow(project: Project) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    submit = project.folder / "submit.sh"
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    options = ["--executor", "cluster-generic", "--jobs", "3", "--latency-wait", "30"]
    options += ["--cluster-generic-submit-cmd", str(submit)]
    text = project.run(*options, cores=None, **SETTINGS)
    # With `shards: auto` as many jobs as may run at once, and a word on their size.
    assert len(project.receipts("infer")) == 3
    assert text.count("infer jobs of at most") <= 1
    assert project.n_computed("infer") == 6
    assert {row["status"] for row in project.summary().values()} == {"ok"}
    again = project.run(*options, cores=None, **SETTINGS)
    assert "Nothing to be done" in again


def test_the_workflow_is_a_module_of_another_one(project: Project) -> None:
    (project.folder / "Snakefile").write_text(LAB.format(repository=REPOSITORY))
    (project.folder / "means.py").write_text(MEANS)
    (project.folder / "lab.yaml").write_text(json.dumps({"pvio": SETTINGS}))
    # Of the outer workflow, and none of pvio's.
    (project.folder / "config.yaml").write_text("animals: 3\n")
    command = ["snakemake", "--cores", "2"]
    done = subprocess.run(
        command, cwd=project.folder, env=pvio_path(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr + project.logs()
    assert (project.folder / "means.tsv").read_text() == "a\t40\nb\t20\n"
    again = subprocess.run(
        command, cwd=project.folder, env=pvio_path(), capture_output=True, text=True
    )
    assert "Nothing to be done" in again.stdout + again.stderr
