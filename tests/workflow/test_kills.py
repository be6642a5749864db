"""Runs that are killed at random moments end in the same bytes, and compute nothing twice."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from projects import Project, make_clip

from pvio.cache.entries import Cache

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
    "model": {"entry": "slow.py:Slow", "batch_size": 10},
    "output": {"preset": "ultrafast"},
}
N_SEGMENTS = 6
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


def committed(project: Project) -> dict[str, object]:
    """The segments in the cache, and which file each of them is, or how long it took.

    Encoded segments that were released for their video keep the time that it took.
    """
    found: dict[str, object] = {}
    for path in project.folder.glob(".pvio/predictions/*/*"):
        fields = path.stat()
        found[path.name] = fields.st_ino, fields.st_mtime_ns
    for kind in ("released", "video"):
        for path in project.folder.glob(f".pvio/{kind}/*/*"):
            cache = Cache(project.folder / ".pvio")
            found[path.name] = cache.metadata(kind, path.name)["seconds"]
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
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Project, Callable[[int], tuple[dict[str, object], float]]]:
    """A project; by the number of shards, products and seconds of a run that nothing disturbed."""
    project = make_project(tmp_path_factory.mktemp("killed"))

    @functools.cache
    def undisturbed_run(shards: int) -> tuple[dict[str, object], float]:
        clear(project)
        began = time.monotonic()
        project.run(**SETTINGS, shards=shards)
        elapsed = time.monotonic() - began
        assert project.n_computed("infer") == N_SEGMENTS
        return products(project), elapsed

    return project, undisturbed_run


def clear(project: Project) -> None:
    for name in ("work", "results", ".results.old", "logs", ".pvio", ".snakemake"):
        shutil.rmtree(project.folder / name, ignore_errors=True)


def killed(
    project: Project, settings: dict[str, object], target: str, moment: float, chance: random.Random
) -> subprocess.Popen[str] | None:
    """A run of which something was killed; None when it ended before."""
    clear(project)
    with project.started(**settings) as process:
        time.sleep(moment)
        victims = []
        while process.poll() is None and not victims:
            if target == "job":
                victims = jobs(process.pid)[: 1 + chance.randrange(2)]
            else:
                victims = [process.pid]
        if target == "group" and victims:
            os.killpg(process.pid, signal.SIGKILL)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if target == "snakemake":
            # Its jobs continue; the next run does not wait for them.
            process.wait(60)
        else:
            process.communicate(timeout=120)
    return process if victims else None


# A job, and all at once; the others are for `-m thorough`. In a test below Snakemake alone is
# killed.
QUICK_SEEDS = (3, 5)
THOROUGH_SEEDS = [
    pytest.param(seed, marks=pytest.mark.thorough) for seed in range(50) if seed not in QUICK_SEEDS
]


@pytest.mark.xdist_group("kills")  # in one folder
@pytest.mark.parametrize("seed", [*QUICK_SEEDS, *THOROUGH_SEEDS])
def test_a_run_that_is_killed_continues_where_it_was(
    seed: int, undisturbed: tuple[Project, Callable[[int], tuple[dict[str, object], float]]]
) -> None:
    chance = random.Random(seed)
    # In the same folder each time, since predictions name their source.
    project, undisturbed_run = undisturbed
    shards = 1 + seed % 2
    expected, elapsed = undisturbed_run(shards)
    settings = {**SETTINGS, "shards": shards}
    target, moment = TARGETS[seed % 3], chance.uniform(0.1, 0.85) * elapsed
    while not (process := killed(project, settings, target, moment, chance)):
        moment *= 0.9  # it was quicker this time
    before = committed(project)
    project.unlock()
    project.run("--rerun-incomplete", **settings)
    for _ in range(300):
        if not members(process.pid):
            break
        time.sleep(0.1)
    assert products(project) == expected
    after = committed(project)
    assert before.items() <= after.items()
    assert len(after) == 2 * N_SEGMENTS
    folder = project.folder
    left = [path for path in folder.rglob("*") if ".tmp" in path.name or ".old" in path.name]
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
        while not list(project.folder.glob(".results.*.tmp/videos/*.mp4")):
            time.sleep(0.001)
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    assert products(project) == before
    assert (project.folder / "results/summary.tsv").exists()
    project.run("--unlock", **changed)
    project.run("--rerun-incomplete", **changed)
    assert products(project) != before
    assert not (project.folder / ".results.old").exists()


def test_a_job_that_outlives_its_run_does_not_disturb_the_next_one(
    new_project: Callable[[], Project],
) -> None:
    """Snakemake is killed while assemble is at work, and started again at once."""
    project = make_project(new_project().folder)
    for number in range(6):
        make_clip(project.folder / f"clips/more{number}.mp4", frames=12)
    (project.folder / "path").mkdir()
    (project.folder / "path/sitecustomize.py").write_text(SLOW_JOINING)
    environment = {"PYTHONPATH": str(project.folder / "path")}
    settings = {**SETTINGS, "model": {"entry": "quick.py:quick"}}
    (project.folder / "quick.py").write_text(
        "def quick(frames):\n    return frames.mean(dim=(1, 2, 3))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*environment.popitem())
        with project.started(**settings) as process:
            while not list(project.folder.glob(".results.*.tmp/videos/*.mp4")):
                time.sleep(0.01)
                assert process.poll() is None
            process.kill()
            process.wait(60)
        project.unlock()
        project.run("--rerun-incomplete", **settings)
        while members(process.pid):
            time.sleep(0.1)
    for kind in ("predictions", "videos"):
        assert len(list(project.folder.glob(f"results/{kind}/*"))) == 8
    assert len(project.summary()) == 8
    assert not list(project.folder.glob(".results*"))


SLOW_JOINING = """
import time
import pvio.media.encode.concat

join = pvio.media.encode.concat.concat_segments

def slow(*arguments, **options):
    time.sleep(0.5)
    return join(*arguments, **options)

pvio.media.encode.concat.concat_segments = slow
"""
