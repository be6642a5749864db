"""Entries of the cache are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from pvio.cache.atomic import atomic_path, write_json, write_text
from pvio.cache.digest import hash_key
from pvio.cache.entries import Cache, Kind
from pvio.cache.lookup import map_in_threads
from pvio.errors import CacheError, no_space

KEY = hash_key(test="entry")
PAYLOAD = bytes(range(256)) * 20
FACTS = {"n_frames": 12, "name": "Mäuse"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "store")


@pytest.fixture
def entry(cache: Cache) -> Path:
    """The file of an entry that was committed."""
    cache.write("predictions", KEY, PAYLOAD, FACTS)
    return cache.path("predictions", KEY)


def files_below(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()]


def test_an_entry_reads_as_it_was_written(cache: Cache, entry: Path):
    payload, fields = cache.read("predictions", KEY)
    assert payload == PAYLOAD
    assert FACTS.items() <= fields.items()


def test_a_payload_is_read_as_a_file_that_ends_with_it(cache: Cache, entry: Path):
    with cache.open_for_read("predictions", KEY) as file:
        assert file.read() == PAYLOAD
        assert file.seek(-3, 2) == len(PAYLOAD) - 3
        assert file.read(1000) == PAYLOAD[-3:]
        assert (file.seek(5), file.read(2), file.tell()) == (5, PAYLOAD[5:7], 7)


def test_facts_are_read_without_the_payload(cache: Cache, entry: Path):
    assert FACTS.items() <= cache.metadata("predictions", KEY).items()


def test_an_empty_payload_is_an_entry(cache: Cache):
    cache.write("video", KEY, b"", {})
    assert cache.read("video", KEY)[0] == b""


def test_kinds_do_not_share_keys(cache: Cache, entry: Path):
    assert cache.has("predictions", KEY)
    assert not cache.has("video", KEY)


def test_facts_added_while_writing_are_stored(cache: Cache):
    fields: dict[str, int] = {}
    with cache.open_for_write("video", KEY, fields) as file:
        file.write(b"abc")
        fields["seconds"] = 3
    assert cache.metadata("video", KEY)["seconds"] == 3


def test_a_writer_may_seek(cache: Cache):
    with cache.open_for_write("video", KEY, {}) as file:
        file.write(b"xxxx")
        file.seek(0)
        file.write(b"ab")
    assert cache.read("video", KEY)[0] == b"abxx"


def test_a_second_write_replaces_the_first(cache: Cache, entry: Path):
    cache.write("predictions", KEY, b"new", {})
    assert cache.read("predictions", KEY)[0] == b"new"


def test_an_absent_entry_is_a_store_error(cache: Cache):
    assert not cache.has("index", KEY)
    with pytest.raises(CacheError):
        cache.read("index", KEY)
    with pytest.raises(CacheError):
        cache.metadata("index", KEY)


def test_an_entry_that_another_host_has_written_is_waited_for(cache: Cache):
    key = hash_key(test="late")
    other = threading.Timer(0.7, lambda: cache.write("predictions", key, PAYLOAD, FACTS))
    other.start()
    assert not cache.has("predictions", key)
    assert cache.wait_for("predictions", key)
    other.join()


def test_all_waits_of_a_store_together_take_some_seconds(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    monkeypatch.setattr("pvio.cache.entries.time.sleep", waits.append)
    for k in range(5):
        assert not cache.wait_for("predictions", hash_key(test=k))
    assert 2 <= sum(waits) <= 10


def test_lookups_come_in_the_order_of_the_items():
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number < 3 else 0)
        return number * number

    assert map_in_threads(slow_at_first, range(300)) == [n * n for n in range(300)]
    assert map_in_threads(slow_at_first, []) == []


def test_a_discarded_entry_is_absent(cache: Cache, entry: Path):
    cache.remove("predictions", KEY)
    cache.remove("predictions", KEY)
    assert not cache.has("predictions", KEY)


@pytest.mark.parametrize("position", [0, 1000, len(PAYLOAD) - 1])
def test_a_flipped_bit_in_the_payload_is_found(cache: Cache, entry: Path, position: int):
    damaged = bytearray(entry.read_bytes())
    damaged[position] ^= 1
    entry.write_bytes(damaged)
    with pytest.raises(CacheError):
        cache.read("predictions", KEY)
    with pytest.raises(CacheError), cache.open_for_read("predictions", KEY):
        pass


def test_a_flipped_bit_anywhere_in_the_footer_is_found(cache: Cache, entry: Path):
    whole = entry.read_bytes()
    passed = []
    for position in range(len(PAYLOAD), len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        entry.write_bytes(damaged)
        try:
            cache.read("predictions", KEY)
            passed.append(position)
        except CacheError:
            pass
    assert passed == []


@pytest.mark.parametrize("size", [0, 3, 100, len(PAYLOAD), -1])
def test_a_truncated_entry_is_found(cache: Cache, entry: Path, size: int):
    entry.write_bytes(entry.read_bytes()[:size])
    with pytest.raises(CacheError):
        cache.read("predictions", KEY)
    with pytest.raises(CacheError):
        cache.metadata("predictions", KEY)


def write_half(cache: Cache, kind: Kind) -> None:
    with cache.open_for_write(kind, KEY, {}) as file:
        file.write(b"half")
        raise RuntimeError


def test_an_exception_while_writing_leaves_nothing(cache: Cache):
    with pytest.raises(RuntimeError):
        write_half(cache, "video")
    assert files_below(cache) == []


def test_an_exception_while_writing_keeps_the_entry_before(cache: Cache, entry: Path):
    with pytest.raises(RuntimeError):
        write_half(cache, "predictions")
    assert cache.read("predictions", KEY)[0] == PAYLOAD


def test_writing_leaves_no_other_file(cache: Cache, entry: Path):
    assert files_below(cache) == [entry]


def test_processes_may_write_one_key_at_the_same_time(cache: Cache):
    code = (
        "import sys; from pvio.cache.entries import Cache\n"
        "for i in range(50):\n"
        "    Cache(sys.argv[1]).write('video', sys.argv[2], bytes([i]) * 100_000, {'i': i})"
    )
    command = [sys.executable, "-c", code, str(cache.root), KEY]
    writers = [subprocess.Popen(command) for _ in range(2)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        if cache.has("video", KEY):
            payload, fields = cache.read("video", KEY)
            assert payload == bytes([fields["i"]]) * 100_000
            reads += 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert reads > 0
    assert files_below(cache) == [cache.path("video", KEY)]


def test_a_key_depends_on_every_fact_and_not_on_their_order():
    assert hash_key(a=1, b=[2, 3]) == hash_key(b=[2, 3], a=1)
    assert len({hash_key(a=1), hash_key(a=2), hash_key(b=1), hash_key(a=1, b=None)}) == 4


def test_a_replaced_file_keeps_its_ending_while_it_is_written(tmp_path: Path):
    with atomic_path(tmp_path / "a.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_json_is_readable_text(tmp_path: Path):
    write_json(tmp_path / "x" / "a.json", {"name": "Mäuse"})
    assert "Mäuse" in (tmp_path / "x" / "a.json").read_text(encoding="utf-8")


def test_json_takes_names_that_are_no_utf8(tmp_path: Path):
    write_json(tmp_path / "a.json", {"name": "caf\udce9 Mäuse"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "caf\\udce9 Mäuse" in text
    assert json.loads(text) == {"name": "caf\udce9 Mäuse"}


def test_text_that_is_no_utf8_is_written_escaped(tmp_path: Path):
    write_text(tmp_path / "a.txt", "caf\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\\udce9\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path: Path, number: int):
    with (
        pytest.raises(OSError) as caught,  # noqa: PT011
        Cache(tmp_path / "cache").open_for_write("video", "a" * 32, {}),
    ):
        raise OSError(number, os.strerror(number))  # of a write, which knows no file
    assert str(tmp_path / "cache") in no_space(caught.value)
    assert "cache" in no_space(caught.value)
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "results/a.tsv"):  # noqa: PT011
        av.error.err_check(-number, None)  # type: ignore[attr-defined]
    assert str(tmp_path / "results") in no_space(caught.value)


READ_ONLY = """
import sys
from pathlib import Path
from pvio.errors import NotWritable
from pvio.pipeline.results.snapshot import Snapshot
from pvio.cache.entries import Cache
from pvio.cache.atomic import write_json

folder = Path(sys.argv[1])
for write in (
    Cache(folder / "cache").prepare,
    lambda: write_json(folder / "results/x.json", {}),
    lambda: write_json(folder / "new/x.json", {}),
    lambda: Snapshot(folder / "results"),
):
    try:
        write()
    except NotWritable as error:
        print(error)
"""


def test_a_read_only_folder_is_named(tmp_path: Path):
    if os.getuid():
        pytest.skip("another user can be taken by root alone")
    for name in ("cache/tmp", "results"):
        (tmp_path / name).mkdir(parents=True)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*user, sys.executable, "-c", READ_ONLY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "ermission denied: '/root" in done.stderr or "setpriv" in done.stderr:
        pytest.skip(done.stderr)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    folders = (tmp_path / "cache", tmp_path / "results", tmp_path, tmp_path)
    for line, folder in zip(lines, folders, strict=True):
        assert line.startswith(f"{str(folder)!r} cannot be written to (Permission denied)")
