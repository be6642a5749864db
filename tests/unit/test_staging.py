"""Videos that are copied to a node's own disk before they are decoded."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from clips import REPOSITORY

from pvio.cache.entries import Cache
from pvio.config.settings import Settings, parse_settings
from pvio.media.index.cached import load_index, serialize_index
from pvio.media.index.frame_index import FrameIndex
from pvio.pipeline.jobs import staging
from pvio.pipeline.jobs.shard import SegmentTask
from pvio.pipeline.jobs.staging import Stager, staging_folder
from pvio.pipeline.planning.completion import Completion
from pvio.pipeline.planning.keys import ResultKeys
from pvio.pipeline.planning.manifest import Receipt
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import Inference, infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

SAMPLES = [REPOSITORY / "samples" / f"{name}.mp4" for name in ("bright_on_dark", "dark_on_bright")]
# Notes which videos the process has open: also that of a job, which may be no fork of this one.
NOTING = """
import os

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(what + "\\n")

def note_open_videos():
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
            if f"{name} {path}" in os.environ["OPEN_BEFORE"].splitlines():
                continue  # of an earlier test: this process, or the one that it was forked from
            if path.endswith(".mp4") and "/results/" not in path:
                note(f"open {path} {os.stat(path).st_mtime_ns}")
        except OSError:
            pass

class Mean:
    def prepare(self, video):
        video.sample(2)
        note(f"path {video.path}")
    def __call__(self, frames):
        note_open_videos()
        return frames.mean(dim=(1, 2, 3))
    def draw(self, canvas, row):
        note_open_videos()
"""


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    folder = tmp_path / "stage"
    folder.mkdir()
    return folder


@pytest.fixture
def own(stage: Path) -> Iterator[Path]:
    """The folder of copies, as a job has it."""
    with staging_folder(str(stage)) as folder:
        assert folder is not None
        yield folder


@pytest.fixture
def at_work(own: Path) -> Iterator[Stager]:
    """What a job copies with; as when it ends, its lock does not outlive the test."""
    staging_of_job = Stager(own)
    yield staging_of_job
    staging_of_job._leave()


def open_files() -> list[str]:
    """The descriptors of this process and their files: a test may have left a video open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], list[str]]:
    """What the model noted since the last call, each once, in order."""
    file = tmp_path / "notes.txt"
    monkeypatch.setenv("NOTES", str(file))
    gc.collect()  # closes the videos of earlier tests that nothing needs
    monkeypatch.setenv("OPEN_BEFORE", "\n".join(open_files()))

    def of(what: str) -> list[str]:
        lines = file.read_text().splitlines()
        file.unlink()
        words = [line.split(" ", 1) for line in lines]
        return list(dict.fromkeys(rest for kind, rest in words if kind == what))

    return of


def job(folder: Path, videos: list[Path], **changed: Any) -> tuple[Any, Settings]:
    """The plan of one shard, in segments of 100 frames, and its settings."""
    model = folder.parent / "noting.py"
    model.write_text(NOTING)
    settings = parse_settings(
        {
            "videos": [str(path) for path in videos],
            "segment_frames": 100,
            "cache": str(folder),
            "model": {"entry": f"{model}:Mean", "device": "cpu"},
            "output": {"preset": "ultrafast"},
            **changed,
        }
    )
    return make_plan(probe(settings), settings, 1)[0], settings


def digests(receipt: Receipt) -> list[dict[str, str]]:
    assert not any(segment.failure_reason for segment in receipt.segments)
    return [segment.digests for segment in receipt.segments]


def copies(stage: Path) -> list[Path]:
    return [path for path in stage.rglob("*") if not path.name.startswith("pvio-")]


def run(folder: Path, stage: Path | None) -> list[Any]:
    """Both jobs; the digests of what they committed."""
    plan, settings = job(folder, SAMPLES, staging_dir=str(stage) if stage else None)
    return [
        digests(infer(next(plan.shard_plans("infer")), settings)),
        digests(encode(next(plan.shard_plans("encode")), settings)),
    ]


@pytest.mark.parametrize("stage_of", [infer, encode])
def test_a_job_copies_each_video_once_and_removes_it(
    tmp_path: Path, stage: Path, notes: Any, stage_of: Any
):
    plan, settings = job(tmp_path / "cache", SAMPLES)
    if stage_of is encode:
        infer(next(plan.shard_plans("infer")), settings)
        notes("open")
    part = next(plan.shard_plans("encode" if stage_of is encode else "infer"))
    stage_of(part, settings.model_copy(update={"staging_dir": str(stage)}))
    assert len(plan.segments) == 5
    opened = [Path(line.split()[0]) for line in notes("open")]
    assert [path.parent.parent for path in opened] == [stage, stage]
    assert len({path.name for path in opened}) == 2
    assert not copies(stage)


def test_results_do_not_depend_on_the_stage(
    tmp_path: Path,
    stage: Path,
    notes: Any,
    in_this_process: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    in_this_process(monkeypatch)
    got = run(tmp_path / "with", stage)
    assert len(got[1]) == 5
    assert got == run(tmp_path / "without", None)


def test_a_copy_that_cannot_be_read_is_no_error_of_the_video(tmp_path: Path, notes: Any):
    plan, settings = job(tmp_path / "cache", SAMPLES[:1])
    part = next(plan.shard_plans("infer"))
    cache = Cache(settings.cache)
    lost = SimpleNamespace(
        stage=lambda index: replace(index, staged_path=str(tmp_path / "lost.mp4"))
    )
    completion = Completion(ResultKeys(settings, "a model"), cache, 9)
    work = SegmentTask(part, completion, cast(Any, lost), Inference(settings, cache, 1))
    outcome = work(0, False, lambda n: None)
    assert outcome.kind == "done", outcome
    assert outcome.value[-1]["status"] == {"ok": 100}


def test_models_see_the_path_of_the_video_itself(tmp_path: Path, stage: Path, notes: Any):
    plan, settings = job(tmp_path / "cache", SAMPLES, staging_dir=str(stage))
    infer(next(plan.shard_plans("infer")), settings)
    assert notes("path") == [str(path) for path in SAMPLES]


def test_the_copy_stays_until_another_video_comes(own: Path, at_work: Stager):
    first, second = (load_index(path) for path in SAMPLES)
    copy = at_work.stage(first).staged_path
    identity = os.stat(copy).st_ino
    assert at_work.stage(first).staged_path == copy
    assert os.stat(copy).st_ino == identity
    assert Path(copy).read_bytes() == SAMPLES[0].read_bytes()
    later = at_work.stage(second).staged_path
    assert not os.path.exists(copy)
    assert [path.name for path in own.glob("*.mp4")] == [Path(later).name]


def test_a_copy_that_was_removed_is_made_again(at_work: Stager):
    index = load_index(SAMPLES[0])
    os.unlink(at_work.stage(index).staged_path)
    assert os.path.exists(at_work.stage(index).staged_path)


def test_an_image_folder_is_copied_with_all_its_images(
    tmp_path: Path, at_work: Stager, ffmpeg: Any
):
    folder = tmp_path / "images.of.a.day"
    folder.mkdir()
    ffmpeg.run("-i", SAMPLES[0], "-frames:v", 5, folder / "%03d.png")
    (folder / "notes.txt").touch()
    index = load_index(str(folder))
    staged = at_work.stage(index)
    names = sorted(path.name for path in Path(staged.staged_path).iterdir())
    assert names == [f"00{i}.png" for i in range(1, 6)]
    from pvio.media.decoders.images import ImageReader

    shutil.rmtree(folder)
    assert [frame.status for frame in ImageReader(staged).frames(0, 5)] == ["ok"] * 5


def test_a_video_of_another_content_is_not_read_from_a_copy(
    tmp_path: Path, own: Path, at_work: Stager, caplog: Any
):
    path = tmp_path / "a.mp4"
    shutil.copy(SAMPLES[0], path)
    index = load_index(str(path))
    shutil.copy(SAMPLES[1], path)
    assert at_work.stage(index) is index
    assert not list(own.glob("*.mp4"))
    assert not list(own.glob(".*"))
    assert "not that of the probed video" in caplog.text


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_of_the_stage_is_reported_once_and_leaves_nothing(
    own: Path, at_work: Stager, caplog: Any, monkeypatch: pytest.MonkeyPatch, code: int
):
    blocks = staging._blocks

    def fails_on_writing(path: str) -> Iterator[bytes]:
        yield next(iter(blocks(path)))
        raise OSError(code, os.strerror(code))  # not what reading raises

    monkeypatch.setattr(staging, "_blocks", fails_on_writing)
    for path in SAMPLES:
        index = load_index(path)
        assert at_work.stage(index) is index
        assert at_work.stage(index) is index
    assert caplog.text.count(os.strerror(code)) == 1
    assert not list(own.glob("*.mp4")) + list(own.glob(".*"))


def test_nothing_is_written_where_the_video_does_not_fit(
    at_work: Stager, caplog: Any, monkeypatch: pytest.MonkeyPatch
):
    size = SAMPLES[0].stat().st_size
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: SimpleNamespace(free=size - 1))
    monkeypatch.setattr(staging, "_copied", lambda *paths: pytest.fail("copied"))
    index = load_index(SAMPLES[0])
    assert at_work.stage(index) is index
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_a_job_with_a_full_stage_disk_gives_all_results(
    tmp_path: Path,
    stage: Path,
    notes: Any,
    in_this_process: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    in_this_process(monkeypatch)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(stage)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        got = run(tmp_path / "with", stage)
        assert {line.split()[0] for line in notes("open")} == {str(path) for path in SAMPLES}
        assert not copies(stage)
    finally:
        subprocess.run(["umount", "--lazy", str(stage)], check=True)
    assert got == run(tmp_path / "without", None)


@pytest.mark.parametrize("path", ["/nothing/there.mp4", "/proc/self/mem"], ids=["gone", "failing"])
def test_a_video_that_cannot_be_read_is_no_error_of_the_stage(
    own: Path, at_work: Stager, caplog: Any, path: str
):
    index = replace(load_index(SAMPLES[0]), path=path)
    assert at_work.stage(index) is index
    assert f"{path}: " in caplog.text
    assert "stage:" not in caplog.text
    assert not list(own.glob(".*"))


@pytest.mark.parametrize("setting", ["$PVIO_NOT_SET", "${PVIO_NOT_SET}/x", "/nothing/there"])
def test_a_stage_that_is_not_there_is_reported_and_the_video_read(
    tmp_path: Path, setting: str, notes: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PVIO_NOT_SET", raising=False)
    plan, settings = job(tmp_path / "cache", SAMPLES[:1], staging_dir=setting)
    infer(next(plan.shard_plans("infer")), settings)
    assert caplog.text.count(f"staging_dir: {setting}: ") == 1
    assert [line.split()[0] for line in notes("open")] == [str(SAMPLES[0])]


def test_variables_are_expanded_in_the_job(stage: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PVIO_STAGE", str(stage))
    with staging_folder("$PVIO_STAGE") as folder:
        assert folder == stage / f"pvio-{os.getuid()}"


def test_a_folder_of_another_user_is_not_used(
    stage: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
):
    (stage / "elsewhere").mkdir()
    (stage / f"pvio-{os.getuid()}").symlink_to(stage / "elsewhere")
    with staging_folder(str(stage)) as folder:
        assert folder is None
    assert "stage: " in caplog.text


def test_a_lock_that_is_a_link_elsewhere_is_not_followed(
    stage: Path, own: Path, at_work: Stager, tmp_path: Path
):
    index = load_index(SAMPLES[0])
    victim = tmp_path / "victim"
    for name in (f"{index.content_digest}.mp4", f"{index.content_digest}.mp4.lock"):
        (own / name).symlink_to(victim)
    assert at_work.stage(index).staged_path == ""
    assert not victim.exists()


# Jobs that share a stage

FORK = multiprocessing.get_context("fork")


def hold(own: Path, index: FrameIndex, sender: Any) -> None:
    """Another job: takes a copy, reports which, and works until it is asked to continue."""
    at_work = Stager(own)
    staged = at_work.stage(index)
    sender.send((staged.staged_path, os.stat(staged.staged_path).st_ino))
    sender.recv()
    at_work.stage(load_index(SAMPLES[1]))
    sender.send("left")
    sender.recv()


@pytest.fixture
def another(own: Path) -> Iterator[Callable[[FrameIndex], tuple[Any, Any]]]:
    """Starts another job that holds the copy of a video."""
    started = []

    def start(index: FrameIndex) -> tuple[Any, Any]:
        here, there = FORK.Pipe()
        process = FORK.Process(target=hold, args=(own, index, there))
        process.start()
        started.append(process)
        return process, here

    yield start
    for process in started:
        process.kill()
        process.join()


def test_jobs_share_a_copy_and_the_last_one_removes_it(at_work: Stager, another: Any):
    index = load_index(SAMPLES[0])
    _, other = another(index)
    copy, identity = other.recv()
    assert at_work.stage(index).staged_path == copy
    assert os.stat(copy).st_ino == identity
    at_work.stage(load_index(SAMPLES[1]))
    assert os.path.exists(copy)
    other.send("go on")
    assert other.recv() == "left"
    assert not os.path.exists(copy)


def test_jobs_that_want_a_video_at_once_make_one_copy(
    own: Path, another: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    notes = tmp_path / "made.txt"
    made = staging._make

    def slowly(index: FrameIndex, copy: Path) -> None:
        with notes.open("a") as file:
            file.write(f"{copy}\n")
        staging.time.sleep(0.5)
        made(index, copy)

    monkeypatch.setattr(staging, "_make", slowly)
    index = load_index(SAMPLES[0])
    answers = [pipe.recv() for pipe in [another(index)[1] for _ in range(4)]]
    assert len(set(answers)) == 1
    assert len(notes.read_text().splitlines()) == 1


def test_the_copy_of_a_killed_job_is_removed_by_the_next_job(stage: Path, own: Path, another: Any):
    index = load_index(SAMPLES[0])
    process, other = another(index)
    copy, _ = other.recv()
    with staging_folder(str(stage)):
        assert os.path.exists(copy)
    assert os.path.exists(copy)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with staging_folder(str(stage)):
        assert not list(own.iterdir())


def test_what_a_job_was_copying_when_it_was_killed_is_removed(
    stage: Path, own: Path, another: Any, monkeypatch: pytest.MonkeyPatch
):
    def die(source: str, target: Path) -> str:
        target.write_bytes(b"half a video")
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(staging, "_copied", die)
        process, _ = another(load_index(SAMPLES[0]))
        process.join()
    assert len(list(own.iterdir())) == 2
    with staging_folder(str(stage)):
        assert not list(own.iterdir())


def test_programs_that_a_job_starts_do_not_hold_its_copy(at_work: Stager):
    copy = at_work.stage(load_index(SAMPLES[0])).staged_path
    with subprocess.Popen(["sleep", "60"], close_fds=False) as program:
        at_work.stage(load_index(SAMPLES[1]))
        assert not os.path.exists(copy)
        program.kill()


def test_a_copy_is_not_part_of_the_stored_index(tmp_path: Path, at_work: Stager):
    cache = Cache(tmp_path / "cache")
    index = load_index(SAMPLES[0], cache)
    staged = at_work.stage(index)
    assert staged.path == index.path
    assert serialize_index(staged) == serialize_index(index)
