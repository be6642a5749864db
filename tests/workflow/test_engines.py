"""Other ways to run the workflow: another executor, and as a module of another workflow."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import REPOSITORY, Project, make_clip, pvio_path
from snakemake_server import snakemake_server

from pvio.config.settings import parse_settings
from pvio.models.entry import model_fingerprint
from pvio.pipeline.planning.cost import stage_workloads

SUBMIT = """#!/bin/sh
# Stands for a scheduler: runs the script in the background, elsewhere than its caller.
setsid sh "$1" >"$1.out" 2>&1 &
echo $!
"""
MODULE = """
configfile: "lab.yaml"


module pvio:
    snakefile:
        "{repository}/workflow/Snakefile"
    config:
        config["pvio"]


use rule * from pvio"""
AROUND = """ as pvio_*


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
    "shards": "auto",
    "model": {"entry": "brightness.py:Brightness"},
    "output": {"video": "none"},
}


@pytest.fixture
def project(new_project: Callable[[], Project], tmp_path: Path) -> Project:
    made = new_project()
    make_clip(tmp_path / "clips/a.mp4", frames=40, options="-g 10")
    make_clip(tmp_path / "clips/b.mp4", frames=20, options="-g 10")
    return made


def test_the_generic_cluster_executor_runs_the_workflow(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    submit = project.folder / "submit.sh"
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    options = ["--executor", "cluster-generic", "--jobs", "2", "--latency-wait", "30"]
    options += ["--seconds-between-status-checks", "1"]
    options += ["--cluster-generic-submit-cmd", str(submit)]
    # As if an earlier run had found the model slow: two minutes for each of two jobs.
    monkeypatch.chdir(project.folder)
    settings = parse_settings(SETTINGS)
    work = stage_workloads(settings, model_fingerprint(settings.model))["infer"].key
    cost = {"frame": 1e4, "prepare": 0, "n_frames": 100, "codec": "h264", "height": 48, "width": 64}
    (project.folder / ".pvio").mkdir()
    costs = json.dumps([{"stage": "infer", "work": work, **cost}])
    (project.folder / ".pvio/costs.json").write_text(costs)
    text = project.run(*options, cores=None, **SETTINGS)
    # With `shards: auto` as many jobs as may run at once, and a word on their size, once.
    assert len(project.receipts("infer")) == 2
    assert text.count("2 infer jobs are predicted to take at most") == 1
    assert project.n_computed("infer") == 6
    assert {row["status"] for row in project.summary().values()} == {"ok"}
    again = project.run(*options, cores=None, **SETTINGS)
    assert "Nothing to be done" in again


@pytest.mark.parametrize("options", [["-s", f"{REPOSITORY}/workflow/Snakefile"], []])
def test_the_catalogs_way_has_the_same_target(project: Project, options: list[str]) -> None:
    # As `snakedeploy` writes it, or the file itself.
    (project.folder / "Snakefile").write_text(MODULE.format(repository=REPOSITORY))
    settings = {"pvio": SETTINGS} if not options else SETTINGS
    (project.folder / "lab.yaml").write_text(json.dumps(settings))
    arguments = ["--cores", "2", "-n", *options, "--configfile", "lab.yaml"]
    done = snakemake_server().run(arguments, project.folder, pvio_path(), timeout=100)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "Concatenating segments to predictions" in text
    assert "localrules" not in text


def test_the_shard_with_the_most_to_do_goes_first(project: Project) -> None:
    text = project.run(cores=1, **{**SETTINGS, "shards": 3})
    loads = json.loads((project.folder / "work/shards/resources.json").read_text())["infer"]
    seconds = [load["seconds"] for load in loads]
    assert seconds == sorted(seconds, reverse=True)
    ran = re.findall(r"Infer shard (\d)-of-3", text)
    assert ran == ["1", "2", "3"]


def test_a_job_of_a_cluster_does_not_look_at_the_collection(project: Project) -> None:
    # In the main process this is an error; the jobs that read the workflow again do not notice.
    nothing = {**SETTINGS, "videos": ["nothing/*.mp4"]}
    asked = project.snakemake("--dry-run", **nothing)
    assert "no file matches the pattern" in asked.stdout + asked.stderr
    job = project.snakemake("--dry-run", "--mode", "remote", **nothing)
    assert job.returncode == 0, job.stdout + job.stderr


def test_no_number_of_jobs_is_no_number_of_shards(project: Project) -> None:
    asked = project.snakemake("--dry-run", "--jobs", "unlimited", **SETTINGS)
    assert "shards: auto takes the number of --jobs" in asked.stdout + asked.stderr


def test_the_workflow_is_a_module_of_another_one(project: Project) -> None:
    (project.folder / "Snakefile").write_text(MODULE.format(repository=REPOSITORY) + AROUND)
    (project.folder / "means.py").write_text(MEANS)
    (project.folder / "lab.yaml").write_text(json.dumps({"pvio": {**SETTINGS, "shards": 1}}))
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
