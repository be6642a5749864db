"""From the `videos` setting to the collection; files are empty, since only names matter here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pvio.collection.fingerprint import fingerprint
from pvio.collection.search import find_sources
from pvio.collection.sources import VIDEO_SUFFIXES, Source
from pvio.errors import CollectionError

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes empty files below a folder and returns the folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def names_of(*entries: object) -> list[str]:
    return [source.name for source in find_sources(map(str, entries))]


def test_a_file_is_called_by_its_stem(tree: Tree):
    assert names_of(tree("a.mp4") / "a.mp4") == ["a"]


def test_paths_are_absolute(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree("a.mp4")
    monkeypatch.chdir(root)
    assert find_sources(["a.mp4"])[0].path == str(root / "a.mp4")


def test_videos_come_in_the_order_of_their_paths(tree: Tree):
    root = tree("b.mp4", "a.mp4")
    assert names_of(root / "b.mp4", root / "a.mp4") == ["a", "b"]


def test_a_video_named_twice_is_one_video(tree: Tree):
    root = tree("a.mp4")
    assert names_of(root / "a.mp4", root, root / "*.mp4", root / "." / "a.mp4") == ["a"]


def test_a_glob_finds_files_of_one_folder(tree: Tree):
    assert names_of(tree("a.mp4", "b.mp4", "c.avi", "d/e.mp4") / "*.mp4") == ["a", "b"]


def test_two_stars_find_files_at_any_depth(tree: Tree):
    root = tree("a.mp4", "d/b.mp4", "d/e/c.mp4")
    assert names_of(root / "**" / "*.mp4") == ["a", "d/b", "d/e/c"]


def test_a_glob_without_an_ending_takes_only_videos(tree: Tree):
    assert names_of(tree("a.mp4", "a.csv", "notes.txt") / "*") == ["a"]


def test_a_glob_with_an_ending_takes_unusual_endings(tree: Tree):
    assert names_of(tree("a.seq", "b.mp4") / "*.seq") == ["a"]


def test_a_folder_is_searched_for_videos_at_any_depth(tree: Tree):
    root = tree("a.mp4", "x/b.MKV", "x/y/c.avi", "x/notes.md", ".hidden/d.mp4", "x/._b.mp4")
    assert names_of(root) == ["a", "x/b", "x/y/c"]


def test_a_folder_of_images_is_one_video(tree: Tree):
    root = tree("run/0001.png", "run/0002.png", "film.mp4")
    assert [(source.name, source.is_image_folder) for source in find_sources([str(root)])] == [
        ("film", False),
        ("run", True),
    ]


def test_images_next_to_videos_are_no_video(tree: Tree):
    assert names_of(tree("a.mp4", "thumbnail.png")) == ["a"]


def test_dots_in_the_name_of_an_image_folder_are_kept(tree: Tree):
    root = tree("run.2026.10/1.png", "run.2026.11/1.png")
    assert names_of(root) == ["run.2026.10", "run.2026.11"]


@pytest.mark.parametrize("ending", sorted(VIDEO_SUFFIXES))
def test_all_endings_of_videos_are_found(tree: Tree, ending: str):
    assert names_of(tree(f"a{ending.upper()}", f"b{ending}")) == ["a", "b"]


def test_what_is_passed_over_is_counted_in_one_line(tree: Tree):
    root = tree("a.mp4", *(f"x/{i}.txt" for i in range(7)), "b.db", "c.DB", "d", "e.png", ".hidden")
    lines: list[str] = []
    find_sources([str(root), str(root / "*")], report=lines.append)
    assert len(lines) == 1
    assert "11 files: 7 .txt, 2 .db, " in lines[0]
    assert "1 without ending" in lines[0]
    assert "1 image next to videos" in lines[0]


def find_line(root: Path) -> str:
    lines: list[str] = []
    find_sources([str(root)], report=lines.append)
    return lines[0]


def test_nothing_is_reported_where_nothing_is_passed_over(tree: Tree):
    root = tree("a.mp4", "run/1.png")
    lines: list[str] = []
    find_sources([str(root)], report=lines.append)
    assert lines == []


def test_an_ending_cannot_feign_a_line(tree: Tree):
    root = tree("a.mp4", "b.x\nError: \x1b[2J")
    assert not set("\n\x1b") & set(find_line(root))


def test_a_folder_of_other_files_is_an_error_that_counts_them(tree: Tree):
    root = tree("a.seq", "b.seq")
    with pytest.raises(CollectionError, match=r"2 files: 2 \.seq"):
        find_sources([str(root)])


def test_a_list_is_relative_to_its_own_folder(tree: Tree):
    root = tree("lists/list.txt", "data/a.mp4")
    (root / "lists/list.txt").write_text("../data/a.mp4\n")
    assert [s.path for s in find_sources([str(root / "lists/list.txt")])] == [
        str(root / "data/a.mp4")
    ]


def test_a_list_has_comments_empty_lines_globs_and_folders(tree: Tree):
    root = tree("a.mp4", "b1.mp4", "b2.mp4", "c/d.mp4")
    (root / "list.txt").write_text("# the first day\n\na.mp4\n  b*.mp4\nc\n")
    assert names_of(root / "list.txt") == ["a", "b1", "b2", "c/d"]


def test_a_tsv_list_has_paths_in_its_first_column_below_a_heading(tree: Tree):
    root = tree("a.mp4", "b.mp4")
    (root / "list.tsv").write_text("path\tanimal\na.mp4\t7\nb.mp4\t8\n")
    assert names_of(root / "list.tsv") == ["a", "b"]


def test_a_list_may_start_with_a_byte_order_mark(tree: Tree):
    root = tree("a.mp4")
    (root / "list.txt").write_bytes(b"\xef\xbb\xbfa.mp4\r\n")
    assert names_of(root / "list.txt") == ["a"]


def test_globs_in_a_list_work_in_a_folder_with_brackets(tree: Tree):
    root = tree("mice [batch 1]/a.mp4", "mice [batch 1]/b.mp4")
    (root / "mice [batch 1]/list.txt").write_text("*.mp4\n")
    assert names_of(root / "mice [batch 1]/list.txt") == ["a", "b"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree: Tree):
    root = tree("a[1].mp4", "a1.mp4")
    assert names_of(root / "a[1].mp4") == ["a[1]"]


def test_paths_with_dots_do_not_leave_the_results_folder(tree: Tree):
    root = tree("x/a.mp4", "y/b.mp4")
    assert names_of(root / "x" / ".." / "y" / "b.mp4", root / "x" / "a.mp4") == ["a", "b"]
    assert names_of(root / "x" / "..") == ["x/a", "y/b"]


@pytest.mark.parametrize("name", ["two words", "Mäuse 鼠", "quote'\"s", "-dash", "=1+1", "~"])
def test_any_file_name_is_kept(tree: Tree, name: str):
    root = tree(f"{name}.mp4")
    assert names_of(root) == [name]
    assert len(fingerprint(find_sources([str(root)]))) > 0


def test_a_file_name_that_is_not_utf8_has_a_fingerprint(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        pass
    assert len(fingerprint(find_sources([str(tmp_path)]))) > 0


def test_a_named_file_that_is_absent_is_kept(tree: Tree):
    root = tree("a.mp4")
    assert names_of(root / "a.mp4", root / "gone.mp4") == ["a", "gone"]


def test_an_absent_file_in_a_list_is_kept(tree: Tree):
    root = tree("a.mp4")
    (root / "list.txt").write_text("a.mp4\ngone.mp4\n")
    assert names_of(root / "list.txt") == ["a", "gone"]


@pytest.mark.parametrize(
    "entry", ["*.mp4", "empty", "nowhere", "nowhere.txt", "empty.txt", "binary.txt"]
)
def test_an_entry_that_leads_to_no_video_is_named(tree: Tree, entry: str):
    root = tree("empty/notes.md", "empty.txt")
    (root / "binary.txt").write_bytes(b"a\0b.mp4\n")
    with pytest.raises(CollectionError) as caught:
        find_sources([str(root / entry)])
    assert entry in str(caught.value)


def test_the_fingerprint_stays_when_nothing_changes(tree: Tree):
    root = tree("a.mp4", "run/1.png")
    assert fingerprint(find_sources([str(root)])) == fingerprint(find_sources([str(root)]))


@pytest.mark.parametrize("change", ["add", "grow", "touch", "remove", "rename", "add an image"])
def test_the_fingerprint_changes_with_the_collection(tree: Tree, change: str):
    root = tree("a.mp4", "b.mp4", "run/1.png")
    before = fingerprint(find_sources([str(root)]))
    match change:
        case "add":
            tree("c.mp4")
        case "grow":
            (root / "a.mp4").write_bytes(b"x")
        case "touch":
            os.utime(root / "a.mp4", ns=(0, 10**18))
        case "remove":
            (root / "b.mp4").unlink()
        case "rename":
            (root / "b.mp4").rename(root / "c.mp4")
        case "add an image":
            tree("run/2.png")
    assert fingerprint(find_sources([str(root)])) != before


def test_a_file_that_appears_changes_the_fingerprint_of_its_source(tmp_path: Path):
    source = Source(str(tmp_path / "a.mp4"), "a")
    before = fingerprint([source])
    (tmp_path / "a.mp4").touch()
    assert fingerprint([source]) != before


def test_a_file_next_to_the_collection_leaves_the_fingerprint(tree: Tree):
    root = tree("a.mp4")
    before = fingerprint(find_sources([str(root)]))
    tree("notes.md")
    assert fingerprint(find_sources([str(root)])) == before


def printed_by(*entries: object) -> str:
    lines: list[str] = []
    find_sources(map(str, entries), report=lines.append)
    return "\n".join(lines)


@pytest.mark.parametrize("entry", ["", "*", "*.*"])
def test_images_next_to_videos_are_passed_over_by_name(tree: Tree, entry: str):
    root = tree("data/a.mp4", "data/b.tif", "data/c.png", "data/notes.md")
    printed = printed_by(root / "data" / entry)
    assert printed.startswith("videos: ignored 3 files: 2 images next to videos, 1 .md (")
    assert names_of(root / "data" / entry) == ["a"]


def test_images_that_another_entry_names_are_not_passed_over(tree: Tree):
    root = tree("data/a.mp4", "data/b_1.png", "data/b_2.png", "data/c.tif")
    assert printed_by(root / "data", root / "data/*.png", root / "data/c.tif") == ""


@pytest.mark.parametrize("entry", ["*", "*.*", "**"])
def test_a_pattern_without_an_ending_takes_images_alone_as_one_video(tree: Tree, entry: str):
    root = tree("frames/1.png", "frames/2.png")
    assert find_sources([str(root / "frames" / entry)])[0].path == str(root / "frames")
    assert printed_by(root / "frames" / entry) == ""


def test_a_pattern_of_some_images_names_their_ending(tree: Tree):
    root = tree("frames/cam1_1.png", "frames/cam2_1.png")
    with pytest.raises(CollectionError, match=r"such as '\S+/cam1_\*\.png'"):
        find_sources([str(root / "frames/cam1_*")])
