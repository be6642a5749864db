"""Looking at the workflow leaves the folder as it is, and a run after it does what was due."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from projects import REPOSITORY, Project, make_clip, pvio_path
from snakemake_server import snakemake_server

# A new folder is looked at in all ways; other states in those that depend on the state.
ALL_WAYS = ("--dry-run", "--lint", "--dag", "--summary", "--rulegraph", "--list-rules", "--unlock")
WAYS = ("--dry-run", "--summary")
# Of `pvio run`; where jobs would go to a cluster, they get the videos in a file.
CLUSTER = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "false", "--jobs", "2"]
WAYS_OF_PVIO_RUN = ("--dry-run", "--summary", "--lint", "--rulegraph")
# Fails at frames 80 pixels wide until a file named `fixed` is there.
MODEL = """
from pathlib import Path

def model(frames):
    if frames.shape[-1] == 80 and not Path("fixed").exists():
        raise ValueError("not yet")
    return frames.mean(dim=(1, 2, 3))
"""
SETTINGS = {
    "videos": ["clips"],
    "shards": 2,
    "on_failed": "mark",
    "model": {"entry": "own.py:model"},
    "output": {"video": "none"},
}
NOTHING = "Nothing to be done"


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of all that is in a folder, but for Snakemake's own."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != folder / ".snakemake"]
        for path in (Path(root, name) for name in [*folders, *files]):
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (path.lstat().st_mtime_ns, content)
    return found


pytestmark = pytest.mark.xdist_group("dry runs")  # they share two runs


class Runs:
    """One folder, which is put into the state of a run that a test needs.

    Args:
        folder: for the project and the states.
    """

    def __init__(self, folder: Path):
        self.project = Project(folder / "project")
        self._states = folder
        make_clip(folder / "originals/good.mp4")
        make_clip(folder / "originals/wide.mp4", size="80x48")
        # Links, since a copy of a video is another file.
        (self.project.folder / "clips").mkdir(parents=True)
        for path in (folder / "originals").iterdir():
            (self.project.folder / "clips" / path.name).symlink_to(path)
        (self.project.folder / "own.py").write_text(MODEL)
        self._keep("new")
        self._printed: dict[str, str] = {}

    def new(self) -> Project:
        """Before any run."""
        return self._put("new")

    def failed(self) -> Project:
        """After a run in which a shard failed."""
        if "failed" not in self._printed:
            self._printed["failed"] = self.new().run(**SETTINGS)
            self._keep("failed")
        return self._put("failed")

    def finished(self) -> tuple[Project, str]:
        """After another run, once the cause was fixed; and what that run printed."""
        if "finished" not in self._printed:
            project = self.failed()
            assert "Updated input files: work/stale/infer/" in look(project, **SETTINGS)
            (project.folder / "fixed").touch()
            self._printed["finished"] = project.run(**SETTINGS)
            self._keep("finished")
        return self._put("finished"), self._printed["finished"]

    def _keep(self, state: str) -> None:
        shutil.copytree(self.project.folder, self._states / state, symlinks=True)

    def _put(self, state: str) -> Project:
        shutil.rmtree(self.project.folder)
        shutil.copytree(self._states / state, self.project.folder, symlinks=True)
        return self.project


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("looked at"))


def look(project: Project, ways: Sequence[str] = WAYS, **settings: object) -> str:
    """Look at the workflow in some ways; what a dry run printed."""
    before = state(project.folder)
    printed = {}
    for option in ways:
        done = project.snakemake(option, **settings)
        printed[option] = done.stdout + done.stderr
        assert done.returncode == 0, printed[option]
        assert state(project.folder) == before, option
    return printed["--dry-run"]


def test_a_new_folder_stays_as_it_is(runs: Runs) -> None:
    project = runs.new()
    assert "Indexing the frames" in look(project, ALL_WAYS, **SETTINGS)
    assert not (project.folder / "work").exists()


@pytest.mark.parametrize("executor", [[], CLUSTER], ids=["local", "cluster"])
def test_a_new_folder_stays_as_it_is_with_pvio_run(runs: Runs, executor: list[str]) -> None:
    if executor:
        pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    project = runs.new()
    before = state(project.folder)
    for option in WAYS_OF_PVIO_RUN if executor else WAYS:
        done = project.pvio_run("clips", option, *executor)
        assert done.returncode == 0, done.stdout + done.stderr
        assert state(project.folder) == before, option


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_snakemake_takes_the_default_profile_by_itself(runs: Runs, snakefile: str) -> None:
    path = REPOSITORY / snakefile
    arguments = ["-s", str(path), "--dry-run", "--config", "videos=clips"]
    done = snakemake_server().run(arguments, runs.new().folder, pvio_path(), timeout=100)
    assert done.returncode == 0, done.stderr
    profile = path.parent / "profiles/default"
    assert f"Using workflow specific profile {profile} " in done.stderr


def test_the_trial_of_the_snakemake_catalog_has_all_rules(tmp_path: Path) -> None:
    """The folder `.test`, with a line that tries it as the catalog does."""
    names = shutil.ignore_patterns("results", "work", "logs", ".*")
    shutil.copytree(REPOSITORY / ".test", tmp_path / "trial", ignore=names)
    arguments = ["-s", str(REPOSITORY / "workflow/Snakefile"), "-c", "1", "-d", "trial"]
    arguments += ["--forceall", "--rulegraph"]
    done = snakemake_server().run(arguments, tmp_path, pvio_path(), timeout=100)
    assert done.returncode == 0, done.stderr
    stages = {"settings", "probe", "plan", "infer", "inferred", "encode", "assemble"}
    assert stages < set(re.findall(r'label *= *"(\w+)', done.stdout))


def test_a_failed_shard_is_due_after_any_number_of_looks(runs: Runs) -> None:
    assert runs.failed().summary()["wide"]["status"] == "failed"
    project, ran = runs.finished()
    assert ran.count("Infer shard") == 1
    assert project.summary()["wide"]["status"] == "ok"
    assert NOTHING in look(project, **SETTINGS)


@pytest.mark.parametrize(
    "loses",
    ["the record of past runs", pytest.param("triggers", marks=pytest.mark.thorough)],
)
def test_a_failed_shard_is_due_by_the_times_of_files_alone(runs: Runs, loses: str) -> None:
    project = runs.failed()
    options = ["--rerun-triggers", "mtime"] if loses == "triggers" else []
    if not options:
        (project.folder / ".snakemake").rename(project.folder / "old record")
    (project.folder / "fixed").touch()
    project.run(*options, **SETTINGS)
    assert project.summary()["wide"]["status"] == "ok"
    assert NOTHING in project.run("--dry-run", *options, **SETTINGS)


def test_changes_are_due_after_any_number_of_looks(runs: Runs) -> None:
    project, _ = runs.finished()
    (project.folder / "clips/wide.mp4").unlink()
    more = {**SETTINGS, "decoder_timeout": 500}
    printed = look(project, **more)
    assert "Indexing the frames" in printed
    assert "Infer shard" in printed
    project.run(**more)
    assert set(project.summary()) == {"good"}
    assert NOTHING in look(project, **more)


def test_lost_results_are_due_after_any_number_of_looks(runs: Runs) -> None:
    project, _ = runs.finished()
    (project.folder / "results").rename(project.folder / "old")
    printed = look(project, **SETTINGS)
    assert "Concatenating segments" in printed
    assert "Infer shard" not in printed
    project.run(**SETTINGS)
    assert project.summary()["good"]["status"] == "ok"
    assert NOTHING in project.run("--dry-run", **SETTINGS)
    (project.folder / "results").rename(project.folder / "old again")
    project.run("--rerun-triggers", "mtime", **SETTINGS)
    assert NOTHING in project.run("--dry-run", **SETTINGS)


def test_another_number_of_cores_is_no_reason_to_run(runs: Runs) -> None:
    """With `shards: auto` the number of a finished run stays; another collection gets another."""
    project, _ = runs.finished()  # with two shards, as on two cores
    auto = {**SETTINGS, "shards": "auto"}
    for cores in (1, 3):
        assert NOTHING in project.run("--dry-run", cores=cores, **auto)
    (project.folder / "work/infer/1-of-2.json").unlink()  # as after a run that was stopped
    assert "over 3 shards" in project.run("--dry-run", cores=3, **auto)
    (project.folder / "clips/wide.mp4").unlink()
    assert "over 1 shards" in project.run("--dry-run", cores=1, **auto)
