"""A folder that cannot be looked at is an error that names it, never a smaller collection."""

from __future__ import annotations

import errno
import glob
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pvio.collection.fingerprint import fingerprint
from pvio.collection.folders import match
from pvio.collection.search import find_sources
from pvio.errors import CollectionError

ERRORS = [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOENT, errno.ENOTCONN, errno.ETIMEDOUT]


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """`day1/a.mp4`, `day2/deep/b.mp4`."""
    return make_days(tmp_path)


def make_days(folder: Path) -> Path:
    for name in ("day1/a.mp4", "day2/deep/b.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def open_days() -> Iterator[Path]:
    """The same where every user may look: each run of pytest closes `tmp_path` to others."""
    if os.getuid():
        pytest.skip("another user can be taken by root alone")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        if any(parent.stat().st_mode & 0o005 != 0o005 for parent in Path(folder).parents):
            pytest.skip(f"{folder} is closed to other users")
        yield make_days(Path(folder))


@pytest.fixture
def break_listing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Lets the listing of one folder fail."""
    scandir = os.scandir

    def break_it(folder: Path, number: int) -> None:
        def broken(path: Any = ".") -> Any:
            if os.path.abspath(path) == str(folder):
                raise OSError(number, os.strerror(number), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", broken)

    return break_it


ENTRIES = [
    "",
    "*",
    "day2",
    "**/*.mp4",
    "**",
    "*/*/b*.mp4",
    "*/deep",
    "day2/*/*.mp4",
    "list.txt",
    "*.tsv",
]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_folder_that_cannot_be_listed_is_named(
    days: Path, break_listing: Any, entry: str, number: int
):
    (days / "list.txt").write_text("day1/a.mp4\nday2\n")
    (days / "list.tsv").write_text("day1/a.mp4\nday2/**/*.mp4\n")
    whole = find_sources([str(days / entry)])
    break_listing(days / "day2/deep", number)
    with pytest.raises(CollectionError) as caught:
        find_sources([str(days / entry)])
    assert "day2/deep" in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert len(whole) >= 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_a_file_whose_existence_is_unknown_is_named(
    days: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    sources = find_sources([str(days)])
    stat = os.stat

    def broken(path: Any, **options: Any) -> Any:
        if str(path).endswith("b.mp4"):
            raise OSError(number, os.strerror(number))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", broken)
    for look in (
        lambda: fingerprint(sources),
        lambda: find_sources([str(days / "day2/deep/b.mp4")]),
    ):
        with pytest.raises(CollectionError, match=r"b\.mp4"):
            look()


LOOK = """
import sys
from pvio.collection.search import find_sources
print(*[source.name for source in find_sources(sys.argv[1:])])
"""


def look_as_other_user(entry: Path) -> subprocess.CompletedProcess[str]:
    """Looks for sources as a user without rights; skips the test where that cannot be."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    done = subprocess.run(
        [*command, "-c", LOOK, str(entry)], capture_output=True, text=True, check=False
    )
    if "setpriv" in done.stderr or "ermission denied: '/root" in done.stderr:
        pytest.skip(done.stderr)
    return done


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
@pytest.mark.parametrize("entry", ["", "**/*.mp4", "*/*/*.mp4"])
def test_a_real_user_without_the_right_gets_an_error(open_days: Path, mode: int, entry: str):
    (open_days / "day2").chmod(mode)
    done = look_as_other_user(open_days / entry)
    (open_days / "day2").chmod(0o755)
    assert done.returncode == 1
    assert "CollectionError" in done.stderr
    assert "day2" in done.stderr.rpartition("CollectionError")[2]


@pytest.mark.parametrize("entry", ["", "**/*.mp4", "*/*.mp4"])
def test_a_folder_of_files_that_can_be_listed_but_not_entered_is_named(open_days: Path, entry: str):
    (open_days / "day1").chmod(0o444)
    done = look_as_other_user(open_days / entry)
    (open_days / "day1").chmod(0o755)
    assert done.returncode == 1
    printed = done.stderr.rpartition("CollectionError")[2]
    assert repr(str(open_days / "day1")) in printed
    assert os.strerror(errno.EACCES) in printed


def test_a_link_to_a_folder_that_is_not_there_is_an_error(days: Path):
    (days / "day3").symlink_to("/nowhere/day3")
    for entry in (days, days / "*" / "*.mp4", days / "**" / "*.mp4"):
        with pytest.raises(CollectionError, match="day3"):
            find_sources([str(entry)])


def test_links_to_files_that_are_not_there_are_reported_or_passed_over(days: Path):
    (days / "day1/c.mp4").symlink_to("/nowhere/c.mp4")  # a video that is unreadable
    (days / "day1/notes.txt").symlink_to("/nowhere/notes.txt")
    (days / "day1/self").symlink_to("self")
    names = [source.name for source in find_sources([str(days)])]
    assert names == ["day1/a", "day1/c", "day2/deep/b"]


def test_links_are_followed_once_and_circles_end(days: Path, tmp_path: Path):
    (days / "day1/up").symlink_to("..")
    (days / "0 first").symlink_to("day2")
    for entry in (days, days / "**"):
        names = [source.name for source in find_sources([str(entry)])]
        assert names == ["day1/a", "day2/deep/b"]  # by the folder itself, not by the link


def test_folders_after_links_are_found(days: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    (other / "c.mp4").touch()
    (days / "link").symlink_to(other)
    for entry in (days, days / "*/*.mp4", days / "**/*.mp4"):
        assert "link/c" in [source.name for source in find_sources([str(entry)])]


def test_results_are_no_input_of_a_pattern_either(days: Path):
    (days / "results/videos").mkdir(parents=True)
    (days / "results/videos/a.mp4").touch()
    (days / "results/.products.json").touch()
    names = [source.name for source in find_sources([str(days / "**/*.mp4")])]
    assert names == ["day1/a", "day2/deep/b"]


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Many small folders to match patterns in, as the working directory."""
    folder = tmp_path_factory.mktemp("forest")
    for name in ("a.mp4", "b", "ab/a.mp4", "ab/b/c.mp4", "b.d/.h/x", "[a]/b", ".hidden/a", "ab/.a"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


PART = st.sampled_from(
    [
        "*",
        "**",
        "a*",
        "?",
        "??",
        "[ab]",
        "[!a]*",
        "*.mp4",
        "ab",
        "b",
        ".*",
        "[[]a]",
        "..",
        "*b",
        "c.mp4",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(PART, min_size=1, max_size=4), absolute=st.booleans(), slash=st.booleans())
def test_patterns_match_as_those_of_glob(
    forest: Path, parts: list[str], absolute: bool, slash: bool
):
    pattern = "/".join(parts) + ("/" if slash else "")
    if absolute:
        pattern = f"{glob.escape(str(forest))}/{pattern}"
    assume(glob.has_magic(pattern))
    # A folder above this one is the machine's own.
    assume(".." not in parts)

    def same(paths: list[str]) -> set[str]:
        # `glob` finds `x/` for `x/**` where there is no such folder; `**` alone finds ".", too.
        return {os.path.normpath(path) for path in paths if os.path.exists(path)} - {"."}

    assert same(match(pattern)) == same(glob.glob(pattern, recursive=True))
