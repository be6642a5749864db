"""What jobs inherit: their `pvio`, and the mark by which SIGTERM finds them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pvio.errors import PvioError
from pvio.pipeline.jobs import environment as job_environment
from pvio.pipeline.jobs import signals
from pvio.pipeline.jobs.environment import prepare_environment
from pvio.pipeline.jobs.signals import JOB_VARIABLE


def test_the_command_of_this_python_comes_first():
    environment = {"PATH": "/usr/bin:/bin", JOB_VARIABLE: "1"}
    prepare_environment(environment)
    own = os.path.dirname(sys.executable)
    assert environment == {"PATH": f"{own}:/usr/bin:/bin"}
    prepare_environment(environment)
    assert environment["PATH"] == f"{own}:/usr/bin:/bin"
    empty: dict[str, str] = {}
    prepare_environment(empty)
    assert empty["PATH"].startswith(own)


def test_a_python_without_the_command_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job_environment, "_folder_of_command", lambda: "")
    with pytest.raises(PvioError, match="-m pip install"):
        prepare_environment({"PATH": str(tmp_path)})
    prepare_environment({"PATH": str(tmp_path)}, own=False)  # as with --sdm conda
    command = tmp_path / "pvio"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    environment = {"PATH": str(tmp_path)}
    prepare_environment(environment)
    assert environment == {"PATH": str(tmp_path)}


# In place of Snakemake, with two jobs: a shell around each, and a child of the job's own.
JOB = """
import subprocess, time
subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(60)
"""
WORKFLOW = """
import signal, subprocess, sys, time
from pvio.pipeline.jobs.signals import terminate_jobs_on_sigterm

signal.signal(signal.SIGTERM, lambda *_: print("before", flush=True))
terminate_jobs_on_sigterm()
job = f"PVIO_JOB=1 {sys.executable} {sys.argv[1]}; echo $?"
late = "sleep 1.5; " + job
shells = [subprocess.Popen(["bash", "-c", text]) for text in (job, late)]
print("started", flush=True)
for shell in shells:
    shell.wait()
"""


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "-c", WORKFLOW, str(tmp_path / "job.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()


def test_sigterm_reaches_every_job_whatever_it_is_called(workflow: subprocess.Popen[str]):
    assert workflow.stdout is not None
    assert workflow.stdout.readline() == "started\n"
    top = psutil.Process(workflow.pid)
    while not any(child.name() == "sleep" and _is_of_job(child) for child in _below(top)):
        time.sleep(0.05)
    children = [child for child in _below(top) if _is_of_job(child) and child.name() == "sleep"]
    workflow.terminate()
    output = sorted(workflow.stdout.read().split())
    assert output == ["143", "143", "before"]  # both jobs; their shells reported it
    assert all(child.is_running() for child in children)  # which a job ends by itself
    for child in children:
        child.kill()


def _below(process: psutil.Process) -> list[psutil.Process]:
    return process.children(recursive=True)


def _is_of_job(process: psutil.Process) -> bool:
    return signals._is_job(process)


def test_a_process_that_has_ended_or_never_existed_is_no_job():
    assert not signals._is_job(None)
    child = subprocess.Popen(["true"])
    process = psutil.Process(child.pid)
    child.wait()
    assert not signals._is_job(process)
