"""Names of results: unique, fit for any file system, and stable."""

from __future__ import annotations

import json
import os
from itertools import permutations
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvio.collection.names import Found, folded, read_names, result_names
from pvio.collection.search import find_sources
from pvio.layout import NAMES_FILE
from pvio.pipeline.stages import assemble

PRODUCTS = ("predictions/{}.parquet", "videos/{}.mp4", "videos/{}.mkv")


def names_of(*paths: str, root: str = "/data", **known: str) -> list[str]:
    """Names of videos that one entry found."""
    return result_names(
        [Found(path, root) for path in paths], {f"/data/{k}": known[k] for k in known}
    )


def make(folder: Path, *names: str) -> list[str]:
    for name in names:
        path = os.fsencode(folder) + b"/" + os.fsencode(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return [str(folder / name) for name in names]


def named(*entries: str, known: dict[str, str] | None = None) -> dict[str, str]:
    """Names by path."""
    return {source.path: source.name for source in find_sources(entries, known)}


def test_equal_stems_in_different_folders_keep_their_folders():
    assert names_of("/data/day1/cam.mp4", "/data/day2/cam.mp4") == ["day1/cam", "day2/cam"]


def test_equal_stems_with_different_endings_keep_their_endings():
    assert names_of("/data/a.avi", "/data/a.mp4", "/data/b.mp4") == ["a.avi", "a.mp4", "b"]


def test_a_name_with_its_ending_is_not_taken_by_another_video():
    names = names_of("/data/clip.avi", "/data/clip.mp4", "/data/clip.mp4.mkv")
    assert names == ["clip.avi", "clip.mp4", "clip.mp4.mkv"]


def test_names_differ_where_case_and_forms_of_accents_do_not_count():
    paths = ["A.mp4", "a.mp4", "day/B.mp4", "Day/b.mp4", "\u00e9.mp4", "e\u0301.mp4"]
    names = names_of(*(f"/data/{path}" for path in paths))
    assert len({folded(name) for name in names}) == 6


def test_the_name_begins_below_the_entry_that_found_the_video(tmp_path: Path):
    a, b = make(tmp_path, "exp1/day1/a.mp4", "exp1/day2/b.mp4")
    assert list(named(str(tmp_path)).values()) == ["exp1/day1/a", "exp1/day2/b"]
    assert list(named(str(tmp_path / "exp1")).values()) == ["day1/a", "day2/b"]
    assert list(named(str(tmp_path / "exp1/*/*.mp4")).values()) == ["day1/a", "day2/b"]
    assert list(named(a, b).values()) == ["a", "b"]


def test_a_single_folder_gives_short_names_even_of_a_single_subfolder(tmp_path: Path):
    (a,) = make(tmp_path, "exp1/day1/a.mp4")
    assert named(str(tmp_path / "exp1"))[a] == "day1/a"


def test_colliding_entries_are_distinguished_by_their_folders_as_a_whole(tmp_path: Path):
    make(tmp_path, "exp1/a.mp4", "exp1/b.mp4", "exp2/b.mp4", "exp3/c.mp4")
    entries = [str(tmp_path / name) for name in ("exp1", "exp2", "exp3")]
    expected = ["exp1/a", "exp1/b", "exp2/b", "c"]
    for order in permutations(entries):
        assert list(named(*order).values()) == expected


def test_folders_of_the_same_name_are_distinguished_by_those_above(tmp_path: Path):
    make(tmp_path, "x/exp/a.mp4", "y/exp/a.mp4")
    names = list(named(str(tmp_path / "x/exp"), str(tmp_path / "y/exp")).values())
    assert names == ["x/exp/a", "y/exp/a"]


def test_a_second_folder_renames_nothing(tmp_path: Path):
    make(tmp_path, "exp1/mouse_00.mp4", "exp1/mouse_01.mp4", "exp2/mouse_00.mp4", "exp2/x.mp4")
    one, two = str(tmp_path / "exp1"), str(tmp_path / "exp2")
    first = named(one)
    assert sorted(first.values()) == ["mouse_00", "mouse_01"]
    second = named(one, two, known=first)
    assert first.items() <= second.items()
    assert sorted(set(second.values()) - set(first.values())) == ["exp2/mouse_00", "exp2/x"]
    assert named(two, one, known=second) == second  # reordered
    last = named(two, known=second)  # removed: what is left stays
    assert last.items() <= second.items()
    assert named(one, two, known=last) == second  # and added again


def test_a_file_that_is_added_to_a_folder_is_called_like_its_neighbors(tmp_path: Path):
    make(tmp_path, "exp1/a.mp4", "exp2/a.mp4")
    entries = str(tmp_path / "exp1"), str(tmp_path / "exp2")
    first = named(*entries)
    (new,) = make(tmp_path, "exp2/b.mp4")
    assert named(*entries, known=first) == first | {new: "exp2/b"}


def test_a_file_next_to_one_of_the_same_stem_renames_nothing(tmp_path: Path):
    make(tmp_path, "a.mp4")
    first = named(str(tmp_path))
    (new,) = make(tmp_path, "a.avi")
    assert named(str(tmp_path), known=first) == first | {new: "a.avi"}


def test_a_wider_entry_renames_nothing(tmp_path: Path):
    make(tmp_path, "exp1/a.mp4", "exp2/a.mp4")
    first = named(str(tmp_path / "exp1"))
    second = named(str(tmp_path), known=first)
    assert first.items() <= second.items()
    assert sorted(second.values()) == ["a", "exp2/a"]


def test_names_of_earlier_versions_are_kept(tmp_path: Path):
    (path,) = make(tmp_path, "exp1/a.mp4")
    plan = {"videos": [{"path": path, "name": "exp1/a", "digest": ""}], "segments": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert read_names(tmp_path) == {path: "exp1/a"}
    assert named(str(tmp_path / "exp1"), known=read_names(tmp_path)) == {path: "exp1/a"}


def test_without_results_there_are_no_names(tmp_path: Path):
    assert read_names(tmp_path / "nowhere") == {}
    (tmp_path / ".names.json").write_text("[1]")
    assert read_names(tmp_path) == {}


@pytest.mark.parametrize("bad", ["../up", "", "/top", "a//b", "x" * 300, "caf\udce9", "a\0"])
def test_names_that_cannot_stay_are_chosen_again(bad: str):
    assert result_names([Found("/data/a.mp4", "/data")], {"/data/a.mp4": bad}) == ["a"]


def test_two_videos_do_not_keep_one_name():
    names = names_of("/data/a.mp4", "/data/b.mp4", **{"a.mp4": "same", "b.mp4": "Same"})
    assert names == ["same", "b"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".parquet"])
def test_no_product_is_called_as_a_folder(suffix: str):
    names = names_of("/data/a.avi", f"/data/a{suffix}/b.mp4")
    assert names == ["a.avi", f"a{suffix}/b"]
    # Of names that are there, the new one gives way.
    names = names_of("/data/a.avi", f"/data/A{suffix}/b.mp4", **{"a.avi": "a"})
    assert names[0] == "a"
    assert "/" not in names[1]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("caf\udce9", "caf~xE9"),
        ("a\x1b[2J\nb", "a~x1B[2J~x0Ab"),
        ("u\u2028sep", "u~u2028sep"),
        ("n\x85l", "n~u0085l"),
        ("\u202egpj", "~u202Egpj"),
    ],
)
def test_what_is_no_text_is_escaped(raw: str, shown: str):
    assert names_of(f"/data/{raw}.mp4") == [shown]
    assert names_of(f"/data/{raw}/a.mp4", f"/data/{shown}/b.mp4") == [f"{shown}/a", f"{shown}/b"]
    both = names_of(f"/data/{raw}.mp4", f"/data/{shown}.mp4")
    assert len(set(both)) == 2


@pytest.mark.parametrize("letter", ["L", "\u00e4", "\u9f20"])
def test_long_names_are_cut_and_differ(letter: str):
    n = 248 // len(letter.encode())
    stem = letter * n
    names = names_of(f"/data/{stem}a.mp4", f"/data/{stem}b.mp4", f"/data/{stem}/c.mp4")
    assert len(set(names)) == 3
    assert_fit(names)


def test_deep_folders_of_long_names_are_cut_as_a_whole():
    folders = "/".join("f" * 200 for _ in range(15))
    names = names_of(f"/data/{folders}/a.mp4", f"/data/{folders}/b.mp4")
    assert len(set(names)) == 2
    assert_fit(names)


def assert_fit(names: list[str]) -> None:
    """No two products are one file, and none is another one's folder, on any file system."""
    assert len({folded(name) for name in names}) == len(names)
    files = {folded(form.format(name)) for name in names for form in PRODUCTS}
    folders = {str(above) for file in files for above in PurePosixPath(file).parents}
    assert not files & folders
    for name in names:
        name.encode()
        parts = PurePosixPath(f"{name}.parquet").parts
        assert "/".join(parts) == f"{name}.parquet"
        assert ".." not in parts
        assert parts[0] != "/"
        assert max(len(part.encode()) for part in parts) <= 255
        assert len(name.encode()) <= 1500
        assert not set(name) & set("\n\r\t\x1b\x85\u2028\x0b\x0c")


STEMS = st.sampled_from(
    ["a", "A", "b", "a.mp4", "a.parquet", "caf\udce9", "caf~xE9", "\u00e9", "e\u0301"]
)
ODD = st.text(
    st.sampled_from(
        ["a", "A", ".", " ", "~", "-", "=", "\n", "\x1b", "\u2028", "\x85", "\udcff", "\u00df"]
    ),
    min_size=1,
    max_size=4,
).filter(lambda text: text not in (".", ".."))
LONG = st.integers(240, 251).map(lambda n: "L" * n)
PARTS = st.one_of(STEMS, ODD, LONG)
PATHS = st.builds(
    lambda folders, stem, ending: "/".join(["/data", *folders, stem + ending]),
    st.lists(PARTS, max_size=2),
    PARTS,
    st.sampled_from(["", ".mp4", ".mkv", ".avi", ".parquet"]),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=8, unique=True), st.data())
def test_any_paths_get_names_that_fit_and_stay(paths: list[str], data: st.DataObject):
    def found(some: list[str]) -> list[Found]:
        """By several entries: each from the file's folder or from the top."""
        return [Found(path, os.path.dirname(path) if len(path) % 2 else "/data") for path in some]

    names = dict(zip(paths, result_names(found(paths)), strict=True))
    assert_fit(list(names.values()))
    # The order does not matter.
    turned = paths[::-1]
    assert dict(zip(turned, result_names(found(turned)), strict=True)) == names
    # Names that were given stay, whatever came before and whatever is added.
    first = data.draw(st.lists(st.sampled_from(paths), unique=True, min_size=1))
    known = dict(zip(first, result_names(found(first)), strict=True))
    after = dict(zip(paths, result_names(found(paths), known), strict=True))
    assert known.items() <= after.items()
    assert_fit(list(after.values()))
    assert dict(zip(paths, result_names(found(paths), after), strict=True)) == after
    left = dict(zip(first, result_names(found(first), after), strict=True))
    assert left.items() <= after.items()


def test_sequences_of_images_are_called_without_their_wildcards(tmp_path: Path):
    names = ("run1/a_1.png", "run1/a_2.png", "run1/b_1.png", "run2/a_1.png", "run2/a_2.png")
    make(tmp_path, *names)
    assert list(named(str(tmp_path / "run1/a_*.png")).values()) == ["a"]
    assert list(named(str(tmp_path / "run2/a_%d.png")).values()) == ["run2"]  # all of its images
    assert list(named(str(tmp_path / "*/a_*.png")).values()) == ["run1/a", "run2"]
    (tmp_path / "run1/list.txt").write_text("?_1.png\na_2.png\n")
    assert list(named(str(tmp_path / "run1/list.txt")).values()) == ["1", "a_2"]
    (tmp_path / "run1/list.txt").write_text("[ab]*[0-9].png\n*.png\n")
    assert list(named(str(tmp_path / "run1/list.txt")).values()) == ["run1"]


def test_only_results_of_moved_files_are_reported_as_renamed(tmp_path: Path):
    old, new = tmp_path / "exp2/a.mp4", tmp_path / "exp3/a.mp4"
    for path in (old, tmp_path / "exp1/a.mp4"):
        path.parent.mkdir()
        path.touch()
    first = SimpleNamespace(path=str(tmp_path / "exp1/a.mp4"), name="a", digest="same")
    copy = SimpleNamespace(path=str(old), name="exp2/a", digest="same")
    moved = SimpleNamespace(path=str(new), name="exp3/a", digest="same")

    def renamed(*videos: Any) -> dict[str, str]:
        return assemble._names(cast(Any, SimpleNamespace(videos=videos)), tmp_path)["renamed"]

    rows = [vars(first), vars(copy)]
    (tmp_path / NAMES_FILE).write_text(json.dumps({"videos": rows, "renamed": {}}))
    assert renamed(first) == {}  # taken out of the collection
    assert renamed(first, moved) == {}  # a further copy
    old.unlink()
    assert renamed(first) == {}  # deleted
    assert renamed(first, moved) == {"exp2/a": "exp3/a"}
