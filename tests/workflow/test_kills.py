"""Runs that are killed at random moments end in the same bytes, and compute nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from projects import Project, make_clip

MODEL = """
import time

class Slow:
    def __call__(self, frames):
        time.sleep(0.1)
        return {"brightness": frames.mean(dim=(1, 2, 3)), "corner": frames[:, 0, :2, :2]}

    def draw(self, canvas, row):
        canvas.text(2, 2, str(row["frame"]))
"""
SETTINGS = {
    "videos": ["clips"],
    "segment_frames": 20,
    "shards": 2,
    "model": {"entry": "slow.py:Slow", "batch_size": 10},
    "output": {"preset": "ultrafast"},
}
N_SEGMENTS = 6
# Moments are drawn up to this; a run that ends earlier is killed at no moment, and counts all the
# same as one that must give the same bytes.
LONGEST = 12.0
TARGETS = ("job", "snakemake", "group")


def make_project(folder: Path) -> Project:
    (folder / "slow.py").write_text(MODEL)
    make_clip(folder / "clips/long.mp4", frames=90, options="-g 10 -bf 2")
    make_clip(folder / "clips/short.mp4", frames=12)
    return Project(folder)


def products(project: Project) -> dict[str, object]:
    """The bytes of all predictions, and the packets of all videos."""
    results = project.folder / "results"
    found: dict[str, object] = {
        path.name: path.read_bytes() for path in results.glob("predictions/*.parquet")
    }
    for path in results.glob("videos/*.mp4"):
        with av.open(str(path)) as video:
            found[path.name] = [
                (packet.pts, packet.dts, bytes(packet)) for packet in video.demux() if packet.size
            ]
    return found


def committed(project: Project) -> dict[Path, tuple[int, int]]:
    """The segments in the store, and which file each of them is."""
    found = {}
    for kind in ("predictions", "video"):
        for path in project.folder.glob(f".pvio/{kind}/*/*"):
            facts = path.stat()
            found[path] = facts.st_ino, facts.st_mtime_ns
    return found


def members(session: int) -> dict[int, str]:
    """Processes of a session that are not over, and their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(stat[3]) == session and stat[0] != "Z":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(entry.name)] = command
    return found


def jobs(session: int) -> list[int]:
    return sorted(
        pid
        for pid, command in members(session).items()
        if "/pvio " in command and "snakemake" not in command and "/sh" not in command
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, object]]:
    """A project, and the products of a run that nothing disturbed."""
    project = make_project(tmp_path_factory.mktemp("killed"))
    project.run(**SETTINGS)
    assert project.n_computed("infer") == N_SEGMENTS
    return project, products(project)


@pytest.mark.parametrize("seed", range(50))
def test_a_run_that_is_killed_goes_on_where_it_was(
    seed: int, undisturbed: tuple[Project, dict[str, object]]
) -> None:
    chance = random.Random(seed)
    target, moment = TARGETS[seed % 3], chance.uniform(0.5, LONGEST)
    # In the same folder each time, since predictions name their source.
    project, expected = undisturbed
    for name in ("work", "results", ".results.next", "logs", ".pvio", ".snakemake"):
        shutil.rmtree(project.folder / name, ignore_errors=True)
    with project.started(**SETTINGS) as process:
        time.sleep(moment)
        if target == "job":
            running = jobs(process.pid)
            for pid in running[: 1 + chance.randrange(2)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif target == "snakemake":
            process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if target == "snakemake":
            # Its jobs go on; the next run does not wait for them.
            process.wait(60)
        else:
            process.communicate(timeout=120)
    before = committed(project)
    project.run("--unlock", **SETTINGS)
    project.run("--rerun-incomplete", **SETTINGS)
    for _ in range(300):
        if not members(process.pid):
            break
        time.sleep(0.1)
    assert products(project) == expected
    after = committed(project)
    assert before.items() <= after.items()
    assert len(after) == 2 * N_SEGMENTS
    folder = project.folder
    left = [path for path in folder.rglob("*") if ".tmp" in path.name or ".next" in path.name]
    assert left == []
    assert {path.name for path in folder.iterdir()} <= {
        *("slow.py", "clips", "__pycache__", ".pvio", ".snakemake", "work", "logs", "results"),
    }


def test_the_results_of_the_run_before_stay_until_the_new_ones_are_there(
    new_project: Callable[[], Project],
) -> None:
    project = make_project(new_project().folder)
    project.run(**SETTINGS)
    before = products(project)
    changed = {**SETTINGS, "output": {"preset": "ultrafast", "crf": 40}}
    with project.started(**changed) as process:
        # While encode jobs run, and when assemble is killed, the old results are all there.
        while not list(project.folder.glob("work/encode/*.json")):
            time.sleep(0.02)
        assert products(project) == before
        while not list(project.folder.glob(".results.next/videos/*.mp4")):
            time.sleep(0.001)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert products(project) == before
    assert (project.folder / "results/summary.tsv").exists()
    project.run("--unlock", **changed)
    project.run("--rerun-incomplete", **changed)
    assert products(project) != before
    assert not (project.folder / ".results.next").exists()
