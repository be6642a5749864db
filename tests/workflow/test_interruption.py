"""A run that is interrupted continues where it was, to the same bytes.

In the usual run test_kills.py shows the same with a signal that nothing can handle, and
test_faults.py how runs end at the others.
"""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest
from projects import Project, make_clip

SLOW_MODEL = """
import time

def model(frames):
    time.sleep(0.4)
    return {"brightness": frames.mean(dim=(1, 2, 3)), "corner": frames[:, 0, :2, :2]}
"""
SETTINGS = {
    "videos": ["clips"],
    "segment_frames": 20,
    "model": {"entry": "slow.py:model", "batch_size": 10},
    "output": {"video": "none"},
}


pytestmark = [pytest.mark.thorough, pytest.mark.xdist_group("interruption")]  # in one folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, bytes]]:
    """A project, and the predictions of a run that nothing disturbed."""
    project = Project(tmp_path_factory.mktemp("interrupted"))
    (project.folder / "slow.py").write_text(SLOW_MODEL)
    make_clip(project.folder / "clips/long.mp4", frames=90, options="-g 10 -bf 2")
    make_clip(project.folder / "clips/short.mp4", frames=12)
    project.run(**SETTINGS)
    assert project.n_computed("infer") == 6
    expected = data(project)
    assert len(expected) == 2
    return project, expected


def data(project: Project) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in project.folder.glob("results/predictions/*.parquet")}


@pytest.mark.parametrize(
    ("how", "shards"),
    [
        (signal.SIGKILL, 1),
        (signal.SIGKILL, 2),
        (signal.SIGTERM, 1),
        (signal.SIGINT, 2),
    ],
)
def test_an_interrupted_run_ends_in_the_same_bytes(
    undisturbed: tuple[Project, dict[str, bytes]], how: signal.Signals, shards: int
) -> None:
    project, expected = undisturbed
    for name in ("work", "results", "logs", ".pvio", ".snakemake"):
        shutil.rmtree(project.folder / name)
    with project.started(**SETTINGS, shards=shards) as process:
        entries: list[object] = []
        while len(entries) < 2:
            time.sleep(0.05)
            assert process.poll() is None, process.communicate()
            entries = list(project.folder.glob(".pvio/predictions/*/*"))
        os.killpg(process.pid, how)
        process.communicate(timeout=60)
    if how == signal.SIGTERM:  # as from a scheduler: the log says that it was no error of the job
        assert "Error: terminated (SIGTERM)" in project.logs()
    if how == signal.SIGINT:
        assert "Error: interrupted (Ctrl-C)" in project.logs()
    assert not (project.folder / "results/summary.tsv").exists()
    project.run("--unlock", **SETTINGS, shards=shards)
    project.run("--rerun-incomplete", **SETTINGS, shards=shards)
    assert 0 < project.n_computed("infer") <= 4  # of 6
    assert data(project) == expected
