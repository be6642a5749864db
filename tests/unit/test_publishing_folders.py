"""Publishing touches no file but pvio's own, and is whole wherever a job ends."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pvio.errors import NotWritable
from pvio.layout import JOURNAL_FOLDER, PRODUCTS_FILE, RUN_FILE, SUMMARY_FILE
from pvio.pipeline.publishing import folders, published_products
from pvio.pipeline.publishing.folders import (
    publishing_folder,
    publishing_name,
    remove_other_next,
    run_of,
)
from pvio.pipeline.publishing.published_products import PublishedProducts
from pvio.pipeline.results import product_table
from pvio.pipeline.results.product_table import Journals, read_products, write_products
from pvio.pipeline.results.products import Products
from pvio.pipeline.results.snapshot import Snapshot

ONE, TWO = {"model": "1"}, {"model": "2"}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are to be; nothing is there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def writes(text: str) -> Callable[[Path], None]:
    return lambda path: (path.write_text(text), None)[1]


def publish(results: Path, run: dict[str, str], **videos: str) -> Path:
    """Publish a table for each video, with this content; the folder that has them."""
    folder = publishing_folder(results, run)
    assert folder is not None
    names = [f"predictions/{video}.parquet" for video in videos]
    products = PublishedProducts(folder, "infer-1-of-1", names)
    for name, text in zip(names, videos.values(), strict=True):
        products.make(name, f"source of {text}", [text], writes(text))
    return folder


def assembled(results: Path, run: dict[str, str], **videos: str) -> None:
    """Replace the results by those of a run."""
    products = Products(Snapshot(results))
    for video, text in videos.items():
        products.make(f"predictions/{video}.parquet", f"source of {text}", [text], writes(text))
    products.publish({RUN_FILE: writes(json.dumps(run)), SUMMARY_FILE: writes("\n".join(videos))})


def content(folder: Path) -> dict[str, str]:
    """All files that users see, with their content."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts)
    }


def test_a_next_folder_without_a_run_is_not_pvios(results: Path, caplog: Any):
    assembled(results, ONE, a="1")
    mine = results.with_name("results.next")
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with caplog.at_level(logging.WARNING):
        remove_other_next(results, TWO)
    assert "results.next has files that pvio did not make" in caplog.text
    assert publishing_folder(results, TWO) is None
    assert content(mine) == {"notes.txt": "mine"}
    assert os.listdir(mine) == ["notes.txt"]


def test_an_empty_next_folder_is_used(results: Path):
    assembled(results, ONE, a="1")
    results.with_name("results.next").mkdir()
    assert publish(results, TWO, a="2") == results.with_name("results.next")


def test_removing_a_next_folder_leaves_files_that_pvio_did_not_write(results: Path):
    assembled(results, ONE, a="1")
    newer = publish(results, TWO, a="2", b="2", c="2")
    (newer / "notes.txt").write_text("mine")
    (newer / "predictions/mine.csv").write_text("mine")
    (newer / "predictions/b.parquet").write_text("edited by hand")
    remove_other_next(results, ONE)
    assert content(newer) == {
        "notes.txt": "mine",
        "predictions/mine.csv": "mine",
        "predictions/b.parquet": "edited by hand",
    }
    assert sorted(os.listdir(newer)) == ["notes.txt", "predictions"]
    assert publishing_folder(results, TWO) is None


def test_removing_a_next_folder_of_pvios_leaves_nothing(results: Path):
    assembled(results, ONE, a="1")
    newer = publish(results, TWO, a="2", **{"deep/er/b": "2"})
    assert (newer / "predictions/deep/er/b.parquet").exists()
    remove_other_next(results, ONE)
    assert not newer.exists()
    assert content(results) == {"predictions/a.parquet": "1", "summary.tsv": "a"}


def test_a_file_of_the_user_with_the_name_of_a_product_is_set_aside(results: Path):
    (results / "predictions").mkdir(parents=True)
    (results / "predictions/a.parquet").write_text("mine")
    (results / SUMMARY_FILE).write_text("my summary")
    publish(results, ONE, a="1", b="1")
    assert content(results)["predictions/a.parquet"] == "1"
    assert content(results)["predictions/a.parquet.old"] == "mine"
    assembled(results, ONE, a="1", b="1")
    assembled(results, ONE, a="1", b="1")
    assert content(results) == {
        "predictions/a.parquet": "1",
        "predictions/b.parquet": "1",
        "predictions/a.parquet.old": "mine",
        "summary.tsv": "a\nb",
        "summary.tsv.old": "my summary",
    }


def test_results_that_are_a_file_are_an_error_and_the_file_stays(results: Path):
    results.write_text("mine")
    for make in (lambda: publishing_folder(results, ONE), lambda: Snapshot(results)):
        with pytest.raises(NotWritable, match="results' is a file"):
            make()
    assert results.read_text() == "mine"
    assert os.listdir(results.parent) == ["results"]


def test_results_of_a_run_that_published_nothing_are_taken_by_the_next(results: Path):
    assert publishing_folder(results, ONE) == results
    assert publishing_name(results, TWO) == "results"
    assert publish(results, TWO, a="2") == results
    assert publishing_name(results, ONE) == "results.next"
    assert publish(results, ONE, a="1") == results.with_name("results.next")
    assert content(results) == {"predictions/a.parquet": "2"}


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(patch: pytest.MonkeyPatch, n: int) -> None:
    """Let the process end at the n-th change of the file system."""
    done: list[str] = []

    def step(name: str, do: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if len(done) >= n:  # nor does it clean up
            raise Killed
        done.append(name)
        return do(*args, **kwargs)

    for name in ("rename", "replace", "link", "mkdir", "unlink", "rmdir"):
        patch.setattr(os, name, partial(step, name, getattr(os, name)))
    for name in ("write_text", "open"):
        do = getattr(Path, name)
        patch.setattr(Path, name, lambda path, *a, _n=name, _d=do, **k: step(_n, _d, path, *a, **k))


def killed_at_each_step(
    step: Callable[[], object], prepare: Callable[[], object], check: Callable[[], object]
) -> int:
    """Repeat a step, ended at each of its changes; check what is there each time."""
    n = 0
    while True:
        prepare()
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, n)
            try:
                step()
                return n
            except Killed:
                pass
        check()
        n += 1


def clear(folder: Path) -> None:
    subprocess.run(
        ["rm", "-rf", *map(str, folder.glob("*")), *map(str, folder.glob(".r*"))], check=True
    )


def test_an_end_at_any_step_of_publishing_is_harmless(results: Path):
    def prepare() -> None:
        clear(results.parent)

    def check() -> None:
        shown = content(results) if results.exists() else {}
        assert set(shown.items()) <= {
            ("predictions/a.parquet", "1"),
            ("predictions/b.parquet", "1"),
        }
        # Other settings are not mixed with what is there; the same ones continue.
        if shown:
            assert publishing_name(results, TWO) == "results.next"
        assert publish(results, ONE, a="1", b="1") == results
        assembled(results, ONE, a="1", b="1")
        assert content(results) == {
            "predictions/a.parquet": "1", "predictions/b.parquet": "1", "summary.tsv": "a\nb"
        }  # fmt: skip
        assert read_products(results).keys() == {
            "predictions/a.parquet", "predictions/b.parquet", RUN_FILE, SUMMARY_FILE
        }  # fmt: skip
        assert not results.with_name("results.next").exists()

    n = killed_at_each_step(lambda: publish(results, ONE, a="1", b="1"), prepare, check)
    assert n >= 10


def test_an_end_at_any_step_of_publishing_other_settings_is_harmless(results: Path):
    def prepare() -> None:
        clear(results.parent)
        assembled(results, ONE, a="1", b="1")

    def check() -> None:
        assert content(results) == {
            "predictions/a.parquet": "1", "predictions/b.parquet": "1", "summary.tsv": "a\nb"
        }  # fmt: skip
        newer = publish(results, TWO, a="2", b="2")
        assert newer == results.with_name("results.next")
        assert content(newer) == {"predictions/a.parquet": "2", "predictions/b.parquet": "2"}

    n = killed_at_each_step(lambda: publish(results, TWO, a="2", b="2"), prepare, check)
    assert n >= 10


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_end_at_any_step_of_joining_is_harmless(
    results: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pvio.pipeline.results.snapshot._flush", lambda folder: None)
    if not can_exchange:
        monkeypatch.setattr("pvio.pipeline.results.snapshot._exchange", lambda one, other: False)
    old = {"predictions/a.parquet": "1", "predictions/b.parquet": "1", "summary.tsv": "a\nb"}
    new = {"predictions/a.parquet": "2", "predictions/c.parquet": "2", "summary.tsv": "a\nc"}
    mine = {"notes.txt": "mine"}

    def prepare() -> None:
        clear(results.parent)
        assembled(results, ONE, a="1", b="1")
        (results / "notes.txt").write_text("mine")

    def check() -> None:
        Snapshot(results).close()  # what the next run does first
        found = content(results)
        assert found in (old | mine, new | mine)
        assert run_of(results) == (ONE if found == old | mine else TWO)
        assembled(results, TWO, a="2", c="2")
        assert content(results) == new | mine

    n = killed_at_each_step(lambda: assembled(results, TWO, a="2", c="2"), prepare, check)
    assert n >= 8


def test_an_end_at_any_step_of_removing_is_harmless(results: Path):
    def prepare() -> None:
        clear(results.parent)
        assembled(results, ONE, a="1")
        publish(results, TWO, a="2", b="2")

    def check() -> None:
        remove_other_next(results, ONE)
        newer = results.with_name("results.next")
        assert not newer.exists() or not os.listdir(newer)

    n = killed_at_each_step(lambda: remove_other_next(results, ONE), prepare, check)
    assert n >= 5


def test_what_killed_jobs_left_is_removed_and_what_running_ones_write_stays(results: Path):
    publish(results, ONE, a="1")
    code = "from pvio.cache.atomic import temporary_name; print(temporary_name(), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stale = [results / JOURNAL_FOLDER / f"{done.stdout}.mp4", results / f"{done.stdout}.json"]
    own = published_products.temporary_name()
    running = [results / JOURNAL_FOLDER / f"{own}.mp4", results / f"{own}.json"]
    for path in (*stale, *running, results / "notes.tmp"):
        path.write_text("x")
    PublishedProducts(results, "infer-1-of-2", [])
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in running)
    assert (results / "notes.tmp").exists()


def test_one_job_publishes_a_video_that_several_finish_at_once(results: Path):
    folder = publishing_folder(results, ONE)
    assert folder is not None
    names = ["predictions/a.parquet"]
    one, two = (PublishedProducts(folder, f"infer-{k}-of-2", names) for k in (1, 2))
    with one.alone("a") as is_first:
        with two.alone("a") as is_second, two.alone("b") as is_another_video:
            assert (is_first, is_second, is_another_video) == (True, False, True)
        one.make(names[0], "", ["1"], writes("1"))
    with two.alone("a") as is_alone:  # afterwards the product of the other job is known
        assert is_alone
        two.make(names[0], "", ["1"], writes("written twice"))
    assert content(folder) == {names[0]: "1"}
    assert not list((folder / JOURNAL_FOLDER).glob("*.lock"))


def test_journals_of_other_jobs_are_not_read_for_each_video(
    results: Path, monkeypatch: pytest.MonkeyPatch
):
    """With thousands of jobs there are as many journals."""
    folder = publishing_folder(results, ONE)
    assert folder is not None
    names = [f"predictions/{name}.parquet" for name in "abc"]
    products = PublishedProducts(folder, "infer-1-of-2", names)
    monkeypatch.setattr(Journals, "add_to", lambda *_: pytest.fail("all journals are read"))
    for name in names:
        with products.alone(name) as is_alone:
            assert is_alone
            products.make(name, "", [name], writes(name))
            assert products.make(name, "", [name], writes("written twice")) == []
    assert content(folder) == {name: name for name in names}


def test_a_file_system_without_locks_does_no_harm(results: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = publishing_folder(results, ONE)
    assert folder is not None
    with PublishedProducts(folder, "infer-1-of-2", []).alone("a") as is_alone:
        assert is_alone


def test_a_product_is_made_again_when_its_inputs_changed(results: Path):
    publish(results, ONE, a="of the old file", b="1")
    publish(results, ONE, a="of the new file", b="1")
    assert content(results)["predictions/a.parquet"] == "of the new file"


# Names that quotes, backslashes and other characters could hide in a line.
PECULIAR = ("a", 'a"b', 'a\\"b', "a\\", 'a": {"b', "ä€", "a\udce9", '{"name": "a"')


def test_a_job_reads_only_the_lines_of_its_own_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = {name: {"key": f"key of {name!r}"} for name in PECULIAR}
    write_products(tmp_path / PRODUCTS_FILE, table)
    (tmp_path / JOURNAL_FOLDER).mkdir()
    for name in PECULIAR:
        product_table.append_note(
            tmp_path / JOURNAL_FOLDER / "j.jsonl", f"new {name}", {"key": name}
        )
    everything = read_products(tmp_path)
    assert everything.keys() == {*PECULIAR, *(f"new {name}" for name in PECULIAR)}
    parsed = 0
    loads = json.loads

    def count(text: Any) -> Any:
        nonlocal parsed
        found = loads(text)
        parsed += len(found) if "name" not in found else 1
        return found

    monkeypatch.setattr(product_table.json, "loads", count)
    for name in PECULIAR:
        parsed = 0
        found = read_products(tmp_path, {name, f"new {name}"})
        assert found == {each: everything[each] for each in (name, f"new {name}")}
        assert parsed == 2


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path):
    (tmp_path / PRODUCTS_FILE).write_text(json.dumps({"a": {"key": "1"}, "b": {"key": "2"}}))
    assert read_products(tmp_path, {"b"}) == {"b": {"key": "2"}}


def test_a_journal_is_read_on_from_where_it_ended(results: Path):
    publish(results, ONE, a="1")
    journals, table = Journals(results), {}
    journals.add_to(table)
    assert table.keys() == {"predictions/a.parquet"}
    (journal,) = (results / JOURNAL_FOLDER).glob("*.jsonl")
    with journal.open("a") as file:
        file.write('{"name": "predictions/b.parquet", "ke')
        file.flush()
        journals.add_to(table)
        assert table.keys() == {"predictions/a.parquet"}
        file.write('y": "2"}\n')
    journals.add_to(table)
    assert table["predictions/b.parquet"] == {"key": "2"}


def test_a_folder_in_which_products_appear_is_no_input(results: Path):
    from pvio.collection.folders import walk

    (results / "videos").mkdir(parents=True)
    (results / "videos/a.mp4").write_text("x")
    assert len(list(walk(str(results.parent)))) == 3
    assert folders.publishing_folder(results, ONE) == results
    assert len(list(walk(str(results.parent)))) == 1
