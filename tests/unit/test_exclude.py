"""The setting `exclude` leaves out what it names, wherever it is, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvio.collection.search import find_sources
from pvio.config.load import load_settings
from pvio.errors import CollectionError, ConfigError

VIDEOS = ("a.mp4", "b_test.mp4", "day1/a.mp4", "day1/b_test.mp4", "day1/old/c.mp4", "old.mp4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder next to the folder of the videos, which are in `data`."""
    for name in VIDEOS:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def left(here: Path, *exclude: str) -> set[str]:
    """The names of the videos that are left, below `data`."""
    entries = [each.replace("DATA", str(here / "data")) for each in exclude]
    found = find_sources([str(here / "data")], exclude=entries)
    return {Path(source.path).relative_to(here / "data").as_posix() for source in found}


@pytest.mark.parametrize(
    ("exclude", "out"),
    [
        (["DATA/a.mp4"], {"a.mp4"}),
        (["../data/a.mp4"], {"a.mp4"}),
        (["../data/./day1/../a.mp4"], {"a.mp4"}),
        (["a.mp4"], {"a.mp4", "day1/a.mp4"}),
        (["DATA/day1"], {"day1/a.mp4", "day1/b_test.mp4", "day1/old/c.mp4"}),
        (["DATA/day1/"], {"day1/a.mp4", "day1/b_test.mp4", "day1/old/c.mp4"}),
        (["DATA/day"], set()),
        (["old"], {"day1/old/c.mp4"}),
        (["old*"], {"day1/old/c.mp4", "old.mp4"}),
        (["*_test.mp4"], {"b_test.mp4", "day1/b_test.mp4"}),
        (["**/*_test.mp4"], {"b_test.mp4", "day1/b_test.mp4"}),
        (["DATA/*_test.mp4"], {"b_test.mp4"}),
        (["DATA/**/*_test.mp4"], {"b_test.mp4", "day1/b_test.mp4"}),
        (["DATA/*/[ab]*.mp4"], {"day1/a.mp4", "day1/b_test.mp4"}),
        (["DATA/a.mp4", "old.mp4"], {"a.mp4", "old.mp4"}),
        ([], set()),
    ],
)
def test_videos_that_are_named_are_left_out(here: Path, exclude: list[str], out: set[str]):
    assert left(here, *exclude) == set(VIDEOS) - out


def test_the_names_of_the_others_stay(here: Path):
    def names(*exclude: str) -> dict[str, str]:
        found = find_sources([str(here / "data")], exclude=exclude)
        return {source.path: source.name for source in found}

    all_names = names()
    assert names("old") == {path: all_names[path] for path in names("old")}


def test_an_entry_that_matches_nothing_is_reported(here: Path):
    lines: list[str] = []
    find_sources([str(here / "data")], report=lines.append, exclude=["nothing.mp4", "a.mp4"])
    assert len(lines) == 1
    assert "'nothing.mp4'" in lines[0]


def test_a_collection_of_which_nothing_is_left_is_an_error(here: Path):
    with pytest.raises(CollectionError, match="exclude"):
        left(here, "*.mp4")


def test_one_entry_needs_no_list():
    assert load_settings("{exclude: old.mp4}").exclude == ["old.mp4"]
    assert load_settings("{}").exclude == []
    with pytest.raises(ConfigError, match="exclude"):
        load_settings("{exclude: ['']}")
