"""Looking at the workflow leaves the folder as it is, and a run after it does what was due."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from projects import Project, make_clip

LOOKS = ("--dry-run", "--lint", "--dag", "--summary", "--rulegraph", "--list-rules", "--unlock")
# A new folder and one with a failed shard are looked at in all ways; other states in these, which
# depend on the state.
SHORT = ("--dry-run", "--summary")
# Fails at frames 80 pixels wide until a file named `mended` is there.
MODEL = """
from pathlib import Path

def model(frames):
    if frames.shape[-1] == 80 and not Path("mended").exists():
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


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    project = new_project()
    make_clip(project.folder / "clips/good.mp4")
    make_clip(project.folder / "clips/wide.mp4", size="80x48")
    (project.folder / "own.py").write_text(MODEL)
    return project


def look(project: Project, ways: Sequence[str] = LOOKS, **settings: object) -> str:
    """Look at the workflow in some ways; what a dry run said."""
    before = state(project.folder)
    said = {}
    for option in ways:
        done = project.snakemake(option, **settings)
        said[option] = done.stdout + done.stderr
        assert done.returncode == 0, said[option]
        assert state(project.folder) == before, option
    return said["--dry-run"]


def test_a_new_folder_stays_as_it_is(project: Project) -> None:
    assert "Indexing the frames" in look(project, **SETTINGS)
    assert not (project.folder / "work").exists()


def test_a_failed_shard_is_due_after_any_number_of_looks(project: Project) -> None:
    project.run(**SETTINGS)
    assert project.summary()["wide"]["status"] == "failed"
    assert "Updated input files: work/stale/infer/" in look(project, **SETTINGS)
    (project.folder / "mended").touch()
    ran = project.run(**SETTINGS)
    assert ran.count("Infer shard") == 1
    assert project.summary()["wide"]["status"] == "ok"
    assert NOTHING in look(project, SHORT, **SETTINGS)


@pytest.mark.parametrize(
    "loses",
    ["the record of past runs", pytest.param("triggers", marks=pytest.mark.thorough)],
)
def test_a_failed_shard_is_due_by_the_times_of_files_alone(project: Project, loses: str) -> None:
    project.run(**SETTINGS)
    options = ["--rerun-triggers", "mtime"] if loses == "triggers" else []
    if not options:
        (project.folder / ".snakemake").rename(project.folder / "old record")
    (project.folder / "mended").touch()
    project.run(*options, **SETTINGS)
    assert project.summary()["wide"]["status"] == "ok"
    assert NOTHING in project.run(*options, **SETTINGS)


def test_changes_are_due_after_any_number_of_looks(project: Project) -> None:
    (project.folder / "mended").touch()
    project.run(**SETTINGS)
    assert NOTHING in look(project, SHORT, **SETTINGS)
    (project.folder / "clips/wide.mp4").unlink()
    more = {**SETTINGS, "decoder_timeout": 500}
    said = look(project, SHORT, **more)
    assert "Indexing the frames" in said
    assert "Infer shard" in said
    project.run(**more)
    assert set(project.summary()) == {"good"}
    assert NOTHING in look(project, SHORT, **more)


def test_lost_results_are_due_after_any_number_of_looks(project: Project) -> None:
    (project.folder / "mended").touch()
    project.run(**SETTINGS)
    (project.folder / "results").rename(project.folder / "old")
    said = look(project, SHORT, **SETTINGS)
    assert "Concatenating segments" in said
    assert "Infer shard" not in said
    project.run(**SETTINGS)
    assert project.summary()["good"]["status"] == "ok"
    assert NOTHING in project.run(**SETTINGS)
    (project.folder / "results").rename(project.folder / "old again")
    project.run("--rerun-triggers", "mtime", **SETTINGS)
    assert NOTHING in look(project, SHORT, **SETTINGS)


def test_another_number_of_cores_is_no_reason_to_run(project: Project) -> None:
    """With `shards: auto` the number of a finished run stays; another collection gets another."""
    (project.folder / "mended").touch()
    auto = {**SETTINGS, "shards": "auto"}
    project.run(cores=2, **auto)
    for cores in (1, 3):
        done = project.snakemake("--dry-run", cores=cores, **auto)
        assert NOTHING in done.stdout + done.stderr
    (project.folder / "work/infer/1-of-2.json").unlink()  # as after a run that was stopped
    done = project.snakemake("--dry-run", cores=3, **auto)
    assert "over 3 shards" in done.stdout + done.stderr
    (project.folder / "clips/wide.mp4").unlink()
    done = project.snakemake("--dry-run", cores=1, **auto)
    assert "over 1 shards" in done.stdout + done.stderr
