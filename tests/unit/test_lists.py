"""Lists of videos as people and spreadsheets write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pvio.collection.lists import read_list
from pvio.collection.search import find_sources
from pvio.errors import CollectionError


def entries(folder: Path, name: str, content: str | bytes) -> list[str]:
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return read_list(str(folder / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a.mp4\nb c.mp4\n"),
        ("a.txt", '# comment\n\n  a.mp4  \r\n"b c.mp4"\r\n'),
        ("a.txt", "'a.mp4'\nb c.mp4"),
        ("a.txt", "\ufeffa.mp4\nb c.mp4"),
        ("a.txt", "a.mp4\r\nb c.mp4\r\n".encode("utf-16")),
        ("a.tsv", "path\tanimal\na.mp4\t7\nb c.mp4\t8\n"),
        ("a.tsv", 'animal\tFile\n7\ta.mp4\n8\t"b c.mp4"\n'),
        ("a.csv", "a.mp4\nb c.mp4\n"),
        ("a.csv", "a.mp4,7\nb c.mp4,8\n"),
        ("a.csv", 'video,animal\r\na.mp4,7\r\n"b c.mp4",8\r\n'),
        ("a.csv", "animal,path\n7,a.mp4\n8,b c.mp4\n"),
        ("a.csv", '\ufeffPath;Tier\r\na.mp4;7\r\n"b c.mp4";8\r\n'),
        ("a.csv", "sep=;\r\nPath;Tier\r\na.mp4;7\r\nb c.mp4;8\r\n"),
        ("a.csv", "a.mp4;7\nb c.mp4;8\n"),
        ("a.csv", "# from the lab, day 1\na.mp4\tx\nb c.mp4\ty\n"),
        ("a.csv", "file\n\na.mp4\n\nb c.mp4\n"),
        ("a.CSV", "file,\na.mp4,\nb c.mp4,\n,\n"),
    ],
)
def test_all_of_these_are_the_same_two_videos(tmp_path: Path, name: str, content: str | bytes):
    assert entries(tmp_path, name, content) == ["a.mp4", "b c.mp4"]


@pytest.mark.parametrize("ending", ["txt", "tsv", "csv"])
@pytest.mark.parametrize(
    "odd", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\u2029"]
)
def test_only_a_line_feed_ends_a_line(tmp_path: Path, ending: str, odd: str):
    names = [f"a{odd}b.mp4", f"{odd}c.mp4", f"d.mp4{odd}"]
    assert entries(tmp_path, f"list.{ending}", "\n".join(names)) == names


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_quotes_hold_what_would_end_a_cell(tmp_path: Path, ending: str):
    text = 'path\n"a,b;c.mp4"\n"a ""b"".mp4"\n"line\nfeed.mp4"\n"tab\there.mp4"\n'
    expected = ["a,b;c.mp4", 'a "b".mp4', "line\nfeed.mp4", "tab\there.mp4"]
    assert entries(tmp_path, f"list.{ending}", text) == expected


@pytest.mark.parametrize("ending", ["txt", "tsv", "csv"])
@pytest.mark.parametrize(
    "name", ["a, b.mp4", "a;b.mp4", '"a".mp4', '"', "'x'", " a.mp4", "a.mp4 ", "#1.mp4", "path"]
)
def test_a_file_that_is_called_as_the_line_stands_is_meant(tmp_path: Path, ending: str, name: str):
    if ending != "txt" and name.startswith("#"):
        pytest.skip("a comment: quotes do not help, a path such as ./#1.mp4 does")
    (tmp_path / name).touch()
    content = f"{name}\nother.mp4\n"
    found = entries(tmp_path, f"list.{ending}", content)
    assert [entry.strip() for entry in found] == [name.strip(), "other.mp4"]
    assert found[0] == name or ending != "txt"


def test_a_quote_that_does_not_end_is_an_error(tmp_path: Path):
    for text in ('"a.mp4\nb.mp4\n', '"a"b.mp4\n'):
        with pytest.raises(CollectionError, match=r"list\.csv.*line"):
            entries(tmp_path, "list.csv", text)


def test_bytes_that_are_no_utf8_name_the_file_with_these_bytes(tmp_path: Path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        pass
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.mp4\n")
    (source,) = find_sources([str(tmp_path / "list.txt")])
    assert os.path.exists(source.path)
    assert source.name == "caf~xE9"


def test_a_list_in_the_encoding_of_windows_finds_files_in_that_of_this_system(tmp_path: Path):
    (tmp_path / "Mäuse.mp4").touch()
    assert entries(tmp_path, "list.csv", "Mäuse.mp4;1\n".encode("cp1252")) == ["Mäuse.mp4"]


def test_entries_of_a_list_are_named_below_its_folder(tmp_path: Path):
    for name in ("data/day1/a.mp4", "data/day2/a.mp4", "elsewhere/x/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "data/list.csv").write_text("path\nday1/a.mp4\nday2\n../elsewhere/x/b.mp4\n")
    names = [source.name for source in find_sources([str(tmp_path / "data/list.csv")])]
    assert names == ["day1/a", "day2/a", "b"]


def test_a_pattern_may_lead_to_lists(tmp_path: Path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text("a.mp4,1\n")
    assert [source.name for source in find_sources([str(tmp_path / "*.csv")])] == ["a"]


@pytest.mark.parametrize("ending", ["txt", "tsv", "csv"])
def test_a_list_without_an_entry_is_an_error(tmp_path: Path, ending: str):
    for text in ("", "\n\n", "# nothing\n"):
        with pytest.raises(CollectionError, match="is empty"):
            entries(tmp_path, f"list.{ending}", text)
    with pytest.raises(CollectionError, match="no text file"):
        entries(tmp_path, f"list.{ending}", b"\x89PNG\0\0")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "# day 1\nDatei;Versuch\na.mp4;1\n", r"list '.*a.csv', line 2; is this .*header"),
        ("a.txt", "Datei;Versuch\na.mp4\n", r"list '.*a.txt', line 1; is this line a header"),
        ("a.tsv", "Datei\tVersuch\na.mp4\t1\n", r"list '.*a.tsv', line 1; .* path, video or file"),
        ("a.csv", "path\na.mp4\n\nabsent\n", r"list '.*a.csv', line 4$"),
        ("a.txt", "a.mp4\nabsent*.mp4\n", r"no file matches .* list '.*a.txt', line 2$"),
    ],
)
def test_what_is_wrong_with_an_entry_names_the_list_and_the_line(
    tmp_path: Path, name: str, content: str, message: str
):
    (tmp_path / "a.mp4").touch()
    (tmp_path / name).write_text(content)
    with pytest.raises(CollectionError, match=message):
        find_sources([str(tmp_path / name)])
