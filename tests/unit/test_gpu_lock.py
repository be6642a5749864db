"""Several GPUs: each job takes one of its own, as long as there are enough. None is needed here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pvio.concurrency.lock_files import open_own, own_folder
from pvio.config.settings import parse_settings
from pvio.inference.engine import decoder_for
from pvio.models import loading
from pvio.models.gpu_lock import acquire_gpu
from pvio.models.loading import resolve_device

# Takes one of the devices, reports which, and holds it until it is asked to end.
JOB = """
import subprocess, sys
from pathlib import Path
from pvio.concurrency.lock_files import open_own, own_folder
from pvio.models.gpu_lock import acquire_gpu

folder, *devices = sys.argv[1:]
print(acquire_gpu(devices, Path(folder)), flush=True)
sys.stdin.readline()
"""

Start = Callable[..., tuple[subprocess.Popen, int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a job that takes one of the devices; the process, and which one it took."""
    processes: list[subprocess.Popen] = []

    def start(*devices: str, code: str = JOB) -> tuple[subprocess.Popen, int]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "locks"), *devices],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_jobs_take_different_devices(start: Start):
    assert [start("a", "b", "c")[1] for _ in range(3)] == [0, 1, 2]


def test_more_jobs_than_devices_spread_evenly(start: Start):
    taken = Counter(start("a", "b")[1] for _ in range(6))
    assert taken == {0: 3, 1: 3}


def test_a_device_is_the_same_whatever_its_number(start: Start):
    assert start("a", "b")[1] == 0
    assert start("b", "a")[1] == 0
    assert start("c")[1] == 0


def test_a_killed_job_frees_its_device_at_once(start: Start):
    first, _ = start("a", "b")
    start("a", "b")
    first.kill()
    first.wait()
    assert start("a", "b")[1] == 0


def test_a_program_that_a_job_started_does_not_hold_its_device(start: Start):
    leaves_one_behind = JOB.replace(
        "sys.stdin", "subprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL); sys.stdin"
    )
    job, taken = start("a", "b", code=leaves_one_behind)
    job.communicate("\n")
    assert (taken, start("a", "b")[1]) == (0, 0)


def test_jobs_that_see_one_device_share_it_and_are_counted(start: Start):
    assert [start("a")[1] for _ in range(2)] == [0, 0]
    assert start("a", "b")[1] == 1
    assert start("a", "b")[1] == 1


def test_without_a_folder_for_locks_the_first_device_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    for folder in ("file", "file/locks", "no/such/parent"):
        assert acquire_gpu(["a", "b"], tmp_path / folder) == 0
    assert caplog.text.count("without knowing of other jobs") == 3


@pytest.fixture
def two_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two devices for `torch.cuda`, of UUIDs a and b."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    uuids = "ab"
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=uuids[number])
    )
    monkeypatch.setattr(loading, "gpu_lock_dir", lambda: tmp_path / "locks")
    loading.acquire_cuda_device.cache_clear()
    yield
    loading.acquire_cuda_device.cache_clear()


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_model_goes_to_the_device_that_is_free(wanted: str, start: Start, two_devices: None):
    start("a")
    assert resolve_device(wanted) == torch.device("cuda:1")


def test_a_job_takes_no_second_device(start: Start, two_devices: None):
    assert [resolve_device("cuda").index for _ in range(3)] == [0, 0, 0]
    assert start("a", "b")[1] == 1


def test_a_device_that_is_named_is_taken_as_it_is(start: Start, two_devices: None):
    start("b")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert start("b", "a")[1] == 1, "of no slot of b"


def test_a_device_without_uuid_is_known_by_its_number(
    start: Start, two_devices: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace())
    start("0")
    assert resolve_device("auto") == torch.device("cuda:1")


def test_a_decoder_is_on_the_device_that_the_model_took(start: Start, two_devices: None):
    start("a")
    settings = parse_settings({"decoder": "cuda"})
    assert decoder_for(resolve_device("auto"), settings) == "cuda:1"


def test_a_decoder_next_to_a_model_on_the_cpu_takes_a_device(start: Start, two_devices: None):
    start("a")
    settings = parse_settings({"decoder": "cuda"})
    assert decoder_for(torch.device("cpu"), settings) == "cuda:1"


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "another user's"])
def test_a_folder_of_locks_that_another_user_may_have_made_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
):
    folder, other = tmp_path / "locks", tmp_path / "other"
    if kind == "file":
        folder.touch()
    elif kind == "another user's":
        if os.getuid():
            pytest.skip("a folder can be given away by root alone")
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    else:
        folder.symlink_to(other)
        if kind == "link":
            other.mkdir()
    with caplog.at_level(logging.WARNING):
        assert acquire_gpu(["a", "b"], folder) == 0
    assert str(folder) in caplog.text
    assert not list(tmp_path.rglob("*.lock"))


def test_a_folder_of_locks_that_all_may_write_to_is_closed(tmp_path: Path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o777)
    own_folder(tmp_path / "locks")
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700


def test_a_lock_that_is_a_link_or_another_users_is_not_opened(tmp_path: Path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "gpu-a-0.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_own(tmp_path / "gpu-a-0.lock", os.O_RDWR | os.O_CREAT)
    if os.getuid() == 0:
        os.chown(tmp_path / "victim", 65534, 65534)
        with pytest.raises(PermissionError, match="another user"):
            open_own(tmp_path / "victim", os.O_RDWR)
