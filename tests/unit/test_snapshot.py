"""The results change as a whole, and no other file in it is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pvio.cache.atomic import link_or_copy
from pvio.errors import PvioError
from pvio.pipeline.results import snapshot
from pvio.pipeline.results.snapshot import Snapshot


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with two products and a file of the user's."""
    folder = tmp_path / "results"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos/a.mp4").write_text("old a")
    (folder / "videos/b.mp4").write_text("old b")
    (folder / "videos/my notes.txt").write_text("mine")
    (folder / "empty").mkdir()
    (tmp_path / "disk").mkdir()
    (folder / "elsewhere").symlink_to(tmp_path / "disk")
    return folder


OWNED = ("videos/a.mp4", "videos/b.mp4")


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def changed(results: Path) -> Snapshot:
    """A next state: `a` is kept, `b` is removed, `c` is new."""
    made = Snapshot(results)
    link_or_copy(results / "videos/a.mp4", made.path("videos/a.mp4"))
    made.path("videos/c.mp4").write_text("new c")
    return made


AFTER = {"videos/a.mp4": "old a", "videos/c.mp4": "new c", "videos/my notes.txt": "mine"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_the_next_state_takes_the_place_of_the_old_one(
    results: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
):
    if not can_exchange:
        monkeypatch.setattr(snapshot, "_exchange", lambda one, other: False)
    before = content(results)
    inode = (results / "videos/a.mp4").stat().st_ino
    made = changed(results)
    assert content(results) == before
    made.publish(OWNED)
    assert content(results) == AFTER
    assert (results / "videos/a.mp4").stat().st_ino == inode
    assert sorted(os.listdir(results.parent)) == ["disk", "results"]
    assert (results / "empty").is_dir()
    assert os.readlink(results / "elsewhere") == str(results.parent / "disk")


def test_a_first_state_needs_no_old_one(tmp_path: Path):
    made = Snapshot(tmp_path / "new/results")
    made.path("a").write_text("1")
    assert not (tmp_path / "new/results").exists()
    made.publish(())
    assert content(tmp_path / "new/results") == {"a": "1"}


def test_a_state_that_is_never_published_leaves_nothing_in_the_end(results: Path):
    before = content(results)
    code = "import sys; from pvio.pipeline.results.snapshot import Snapshot; Snapshot(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(results)], check=True)
    assert content(results) == before
    assert len(os.listdir(results.parent)) == 3
    changed(results).publish(OWNED)
    assert content(results) == AFTER
    assert sorted(os.listdir(results.parent)) == ["disk", "results"]


def test_two_next_states_do_not_meet(results: Path):
    one, two = changed(results), Snapshot(results)
    two.path("d").write_text("d")
    one.publish(OWNED)
    assert content(results) == AFTER
    two.publish(AFTER)
    assert content(results) == {"d": "d"}
    assert (results / "empty").is_dir()


def test_what_is_put_there_at_the_last_moment_is_taken_over(
    results: Path, monkeypatch: pytest.MonkeyPatch
):
    made = changed(results)
    exchange = snapshot._exchange

    def late(one: Path, other: Path) -> bool:
        (results / "videos/late.txt").write_text("late")
        return exchange(one, other)

    monkeypatch.setattr(snapshot, "_exchange", late)
    made.publish(OWNED)
    assert content(results) == {**AFTER, "videos/late.txt": "late"}


def test_a_state_that_is_discarded_leaves_nothing(results: Path):
    before = content(results)
    changed(results).close()
    assert content(results) == before
    assert sorted(os.listdir(results.parent)) == ["disk", "results"]


def test_an_end_between_two_renames_is_repaired(results: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshot, "_exchange", lambda one, other: False)
    made = changed(results)
    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if target == results:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        made.publish(OWNED)
    monkeypatch.undo()
    assert not results.exists()
    Snapshot(results)
    assert content(results)["videos/b.mp4"] == "old b"


def test_a_linked_folder_stays_a_link(results: Path, tmp_path: Path):
    link = tmp_path / "project/results"
    link.parent.mkdir()
    link.symlink_to(results)
    changed(link).publish(OWNED)
    assert link.is_symlink()
    assert content(link) == AFTER


def test_file_systems_without_hard_links_get_copies(results: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    changed(results).publish(OWNED)
    assert content(results) == AFTER


def test_a_folder_that_cannot_be_renamed_stays_as_it_is(
    results: Path, monkeypatch: pytest.MonkeyPatch
):
    def busy(*args: object) -> None:
        raise OSError(16, "Device or resource busy")

    before = content(results)
    made = changed(results)
    monkeypatch.setattr(snapshot, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(PvioError, match=r"busy.*mount point"):
        made.publish(OWNED)
    assert content(results) == before
