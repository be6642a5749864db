"""The workflow on a real Slurm of two nodes, with the profile that comes with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import BRIGHTNESS, REPOSITORY, Project, make_clip
from small_slurm import Slurm, small_slurm, why_not

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

# The built-in tracker, slow enough for a job to be met at work.
SLOW_TRACKER = """
import time
from pvio.models import OpenFieldTracker

class SlowTracker(OpenFieldTracker):
    def __call__(self, frames):
        time.sleep(0.3)
        return super().__call__(frames)
"""
SETTINGS: dict[str, Any] = {
    "videos": [str(REPOSITORY / "samples")],
    "segment_frames": 20,
    "shards": 3,
    "model": {"entry": "slow.py:SlowTracker", "batch_size": 5},
    # Asks for a GPU. Those of this cluster are none, so that PyAV takes over.
    "decoder": "cuda",
}
PROFILE = [
    "--workflow-profile", str(REPOSITORY / "workflow/profiles/slurm"),
    "--slurm-init-seconds-before-status-checks", "4",  # jobs take seconds
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        # Where it was installed for this, as by .ci/run, no reason is good enough.
        (pytest.fail if os.environ.get("PVIO_TEST_SLURM") == "required" else pytest.skip)(reason)
    with small_slurm(tmp_path_factory.mktemp("slurm") / "cluster") as slurm:
        if os.environ.get("PVIO_TEST_SLURM") == "required":
            assert slurm.has_accounting, "slurmdbd or MariaDB is not installed"
        yield slurm


def prepared(folder: Path) -> Project:
    folder.mkdir()
    project = Project(folder)
    (project.folder / "slow.py").write_text(SLOW_TRACKER)
    return project


def products(project: Project) -> dict[str, bytes]:
    results = project.folder / "results"
    paths = (path for name in ("predictions", "videos") for path in (results / name).rglob("*.*"))
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in paths}


def entries(project: Project) -> dict[str, tuple[int, int]]:
    """Committed predictions with what changes when they are written again."""
    found = {}
    for path in project.folder.glob(".pvio/predictions/*/*"):
        fields = path.stat()
        found[path.name] = fields.st_ino, fields.st_mtime_ns
    return found


def infer_jobs(cluster: Slurm, project: Project) -> list[dict[str, str]]:
    """Infer jobs of a project that Slurm knows of, the oldest first."""
    return [row for row in all_jobs(cluster, project) if row["rule"].startswith("rule_infer")]


def all_jobs(cluster: Slurm, project: Project) -> list[dict[str, str]]:
    columns = (
        *("jobid", "state", "nodelist", "tres-alloc", "tres-per-job", "timelimit", "comment"),
        *("workdir", "name"),
    )
    names = ("id", "state", "node", "tres", "gpus", "limit", "rule", "folder", "name")
    lines = cluster.jobs(
        "--states=all", "--sort=i", f"--Format={','.join(f'{c}:|' for c in columns)}"
    )
    rows = [dict(zip(names, line.split("|"), strict=False)) for line in lines]
    return [row for row in rows if row["folder"] == str(project.folder)]


def state_of(cluster: Slurm, project: Project, job: str) -> str:
    return next(row["state"] for row in infer_jobs(cluster, project) if row["id"] == job)


def status_of(project: Project) -> dict[str, Any]:
    command = [sys.executable, "-m", "pvio", "status", "--json", "--config", json.dumps(SETTINGS)]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def until(wanted: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until something is the case, as long as the workflow runs."""
    while not (found := wanted()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return found


def test_a_short_run_ends_in_the_bytes_of_a_local_run(cluster: Slurm, tmp_path: Path) -> None:
    make_clip(tmp_path / "clips/a.mp4", frames=20, options="-g 10")
    make_clip(tmp_path / "clips/b.mp4", frames=10)
    settings = {
        "videos": [str(tmp_path / "clips")],
        "segment_frames": 10,
        "shards": 2,
        "model": {"entry": "brightness.py:Brightness"},
        "output": {"preset": "ultrafast"},
    }
    local, project = (Project(tmp_path / name) for name in ("local", "cluster"))
    for each in (local, project):
        each.folder.mkdir()
        (each.folder / "brightness.py").write_text(BRIGHTNESS)
    # A check that finds no finished job makes the next one wait for 10 s more.
    options = [*PROFILE[:-1], "8"]
    with project.started(*options, cores=None, **settings) as process:
        local.run(**settings)  # while the cluster is at work
        stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stdout + stderr + project.logs()
    assert len(products(local)) == 4
    assert products(local) == products(project)
    ours = all_jobs(cluster, project)
    rules = Counter(job["rule"].partition("_wildcards_")[0] for job in ours)
    assert rules == {"rule_probe": 1, "rule_infer": 2, "rule_encode": 2, "rule_assemble": 1}
    assert {job["state"] for job in ours} == {"COMPLETED"}
    assert all(job["name"].startswith("pvio_") for job in ours)


@pytest.mark.thorough
def test_a_cancelled_and_a_requeued_job_end_in_the_bytes_of_a_local_run(
    cluster: Slurm, tmp_path: Path
) -> None:
    project, local = prepared(tmp_path / "cluster"), prepared(tmp_path / "local")

    def at_work() -> list[dict[str, str]]:
        running = [job for job in infer_jobs(cluster, project) if job["state"] == "RUNNING"]
        logs = [path.read_text() for path in project.folder.glob("logs/infer/*.log")]
        return running if len(running) == 3 and sum("done in" in log for log in logs) == 3 else []

    with (
        local.started(**SETTINGS) as beside,
        project.started(*PROFILE, cores=None, **SETTINGS) as process,
    ):
        jobs = until(at_work, process)
        status = status_of(project)
        before = entries(project)
        # As an operator, or a time limit, would; and as a preemption does.
        subprocess.run(["scancel", jobs[0]["id"]], check=True)
        subprocess.run(["scontrol", "requeue", jobs[1]["id"]], check=True)
        until(lambda: state_of(cluster, project, jobs[1]["id"]) == "PENDING", process)
        # Slurm itself waits for two minutes.
        update = ["scontrol", "update", f"JobId={jobs[1]['id']}", "StartTime=now"]
        subprocess.run(update, check=True)
        stdout, stderr = process.communicate(timeout=500)
        beside.communicate(timeout=500)
    text = stdout + stderr
    assert process.returncode == 0, text + project.logs()

    assert status["is_running"]
    assert 0 < status["stages"][0]["frames_done"] < status["stages"][0]["frames"]
    assert {job["node"] for job in jobs} == {"n1", "n2"}
    assert [job["state"] for job in infer_jobs(cluster, project)].count("CANCELLED") == 1
    assert len(infer_jobs(cluster, project)) == 4
    # What the plan and the profile ask for: of every attempt, and of encode as well as infer.
    plan = json.loads((project.folder / "work/shards/resources.json").read_text())
    memory = {load["memory_mib"] * n for load in plan["infer"] for n in (1, 2)}
    assert all(job["gpus"] == "gres:gpu:1" and "cpu=2" in job["tres"] for job in jobs)
    assert {int(re.search(r"mem=(\d+)M", job["tres"])[1]) for job in jobs} <= memory
    assert {job["limit"] for job in infer_jobs(cluster, project)} == {"16:00", "32:00"}
    asked = {job["rule"].partition("_wildcards_")[0] for job in all_jobs(cluster, project)}
    assert asked == {"rule_probe", "rule_infer", "rule_encode", "rule_assemble"}
    encodes = [job for job in all_jobs(cluster, project) if job["rule"].startswith("rule_encode")]
    assert len(encodes) == 3
    assert all("gpu" not in job["gpus"] and "cpu=1" in job["tres"] for job in encodes)
    after = entries(project)
    assert len(before) >= 3
    assert {key: after[key] for key in before} == before  # nothing was computed again
    assert beside.returncode == 0, local.logs()
    assert products(project) == products(local)
    assert len(products(project)) == 6


@pytest.mark.thorough
def test_a_node_that_goes_down_costs_time_only(cluster: Slurm, tmp_path: Path) -> None:
    project, local = prepared(tmp_path / "cluster"), prepared(tmp_path / "local")

    def at_work() -> list[dict[str, str]]:
        """The jobs, once each has finished a segment."""
        running = [job for job in infer_jobs(cluster, project) if job["state"] == "RUNNING"]
        logs = [path.read_text() for path in project.folder.glob("logs/infer/*.log")]
        return running if sum("done in" in log for log in logs) == 3 else []

    with project.started(*PROFILE, cores=None, **SETTINGS) as process:
        jobs = until(at_work, process)
        before = entries(project)
        lost = [job for job in jobs if job["node"] == "n1"]
        cluster.lose_node("n1")

        def are_queued() -> bool:
            return all(state_of(cluster, project, job["id"]) == "PENDING" for job in lost)

        until(are_queued, process)
        cluster.start_node("n1")
        for job in lost:  # Slurm itself waits for two minutes
            subprocess.run(["scontrol", "update", f"JobId={job['id']}", "StartTime=now"])
        stdout, stderr = process.communicate(timeout=500)

    assert lost
    assert process.returncode == 0, stdout + stderr + project.logs()
    after = entries(project)
    assert {key: after[key] for key in before} == before  # nothing was computed again
    local.run(**SETTINGS)
    assert products(project) == products(local)
