"""Whatever is raised for one video, wherever, costs this one alone."""

from __future__ import annotations

import errno
import functools
import logging
import os
import pickle
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import av
import failing_index
import pyarrow as pa
import pytest
import torch
from stages import CallsHere

import pvio
from pvio.cli.status.compare import status
from pvio.config.settings import Settings, parse_settings
from pvio.errors import (
    CacheError,
    ConfigError,
    LostEntry,
    ModelError,
    NoSpaceLeft,
    PvioError,
    UnreadableVideo,
)
from pvio.pipeline.guard import concerns_all, describe, reason_for_video
from pvio.pipeline.planning.manifest import Plan, Receipt
from pvio.pipeline.results.verify import verify
from pvio.pipeline.stages import probe as probe_module
from pvio.pipeline.stages.assemble import assemble
from pvio.pipeline.stages.encode import encode
from pvio.pipeline.stages.infer import infer
from pvio.pipeline.stages.plan import make_plan
from pvio.pipeline.stages.probe import probe

pytestmark = pytest.mark.xdist_group("guard")  # they share a finished run

MODEL = "def brightness(frames):\n    return {'brightness': frames.mean(dim=(1, 2, 3))}\n"
VICTIM = "victim"
OTHERS = {"first", "last"}
PACKAGE = Path(pvio.__file__).parent
# Modules whose functions are called for all videos together, before or after the border: the
# collection, settings, names of files, the border itself, what listens to FFmpeg, the summary and
# the page.
BEYOND = (
    *("collection/", "config/", "errors.py", "text.py", "layout.py", "media/ffmpeg/log.py"),
    *("pipeline/guard.py", "pipeline/jobs/progress.py", "pipeline/results/summary.py"),
    "pipeline/report/",
)
# Those that hold the border, and what follows an error there.
BEYOND_FUNCTIONS = {"known_video", "_index", "_index_in_child", "unreadable_row", "_withdraw"}


class Peculiar(Exception):
    """An exception that cannot be pickled, nor be turned into text."""

    def __init__(self, one: object, other: object):
        super().__init__(one, other)

    def __str__(self) -> str:
        raise ValueError("no text")


ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: Peculiar(1, 2),
    lambda: MemoryError(),
    lambda: AttributeError("'NoneType' object has no attribute 'codec'"),
    lambda: KeyError("rate"),
    lambda: UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
    lambda: OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300),
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: pa.ArrowInvalid("no such column"),
    lambda: av.error.InvalidDataError(1, "Invalid data found", "victim.mp4"),
    lambda: RecursionError("too deep"),
    lambda: ZeroDivisionError("division by zero"),
    lambda: ModelError("it differs"),
)


@dataclass
class Run:
    """A finished run over three videos in the working folder."""

    settings: Settings
    plan: Plan
    receipts: list[Receipt]


@pytest.fixture(scope="module")
def finished(
    ffmpeg: Any, tmp_path_factory: pytest.TempPathFactory, in_this_process: Any
) -> Iterator[tuple[Path, Run]]:
    """A working folder with a finished run, and the run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "clips").mkdir()
    (folder / "bright.py").write_text(MODEL)
    for name in (*OTHERS, VICTIM):
        ffmpeg.run(
            *("-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25"),
            *("-f", "lavfi", "-i", "sine", "-frames:v", 6, "-g", 3, "-pix_fmt", "yuv420p"),
            *("-metadata", f"title={name}", "-shortest", folder / f"clips/{name}.mp4"),
        )
    threads, before = torch.get_num_threads(), Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    settings = parse_settings(
        {
            "videos": ["clips"],
            "segment_frames": 3,
            "model": {"entry": "bright.py:brightness", "device": "cpu"},
            "output": {"crf": 40, "preset": "ultrafast"},
        }
    )
    plan, _ = make_plan(probe(settings), settings, 1)
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        receipts = [
            infer(next(plan.shard_plans("infer")), settings),
            encode(next(plan.shard_plans("encode")), settings),
        ]
    assemble(plan, settings, receipts, "results")
    os.chdir(before)
    yield folder, Run(settings, plan, receipts)
    sys.path.remove(str(folder))
    torch.set_num_threads(threads)


@pytest.fixture
def run(finished: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run; its folder is the working folder."""
    monkeypatch.chdir(finished[0])
    return finished[1]


def concerns_victim(value: object) -> bool:
    if isinstance(value, str | os.PathLike):
        return VICTIM in os.fspath(value) and "\n" not in os.fspath(value)  # no whole table
    if isinstance(value, tuple):
        return any(map(concerns_victim, value))
    return VICTIM in str(getattr(value, "path", ""))


@functools.cache
def is_within_border(code: CodeType) -> bool:
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return False
    if path.relative_to(PACKAGE).as_posix().startswith(BEYOND):
        return False
    return code.co_name not in BEYOND_FUNCTIONS


class Tracer:
    """Notes the functions of pvio that are called for the victim, or raises in one of them."""

    def __init__(self, target: CodeType | None = None, error: Exception | None = None):
        self.target, self.error = target, error
        self.found: dict[CodeType, None] = {}
        self.has_raised = False

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event != "call" or (self.target is not None and code is not self.target):
            return
        if not is_within_border(code):
            return
        n = code.co_argcount + code.co_kwonlyargcount
        if any(concerns_victim(frame.f_locals.get(name)) for name in code.co_varnames[:n]):
            self.found[code] = None
            if self.error is not None:
                self.has_raised = True
                raise self.error

    def during(self, step: Callable[[], Any]) -> Any:
        tracing = sys.gettrace()
        threading.settrace(self)
        sys.settrace(self)
        try:
            return step()
        finally:
            sys.settrace(tracing)
            threading.settrace(tracing)


def check_each_step(step: Callable[[], Any], check: Callable[[Any], None], least: int) -> None:
    """Raise in each function that a step calls for the victim; check what it returns each time."""
    tracer = Tracer()
    check(tracer.during(step))
    assert len(tracer.found) >= least, [code.co_qualname for code in tracer.found]
    n_raised = 0
    for number, code in enumerate(tracer.found):
        injecting = Tracer(code, ERRORS[number % len(ERRORS)]())
        try:
            check(injecting.during(step))
        except BaseException as error:
            error.add_note(f"{injecting.error.__class__.__name__} was raised in {code}")
            raise
        n_raised += injecting.has_raised
    assert n_raised >= least


def fresh(run: Run, tmp_path: Path) -> Settings:
    """The settings with a copy of the cache."""
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    shutil.copytree(".pvio", tmp_path / "cache")
    return run.settings.model_copy(update={"cache": str(tmp_path / "cache")})


@pytest.mark.parametrize("is_indexed", [False, True])
def test_in_each_step_of_probe(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_indexed: bool
):
    monkeypatch.setattr("pvio.pipeline.stages.probe.WorkerPool", CallsHere)

    def step() -> list[Any]:
        settings = fresh(run, tmp_path)
        if not is_indexed:
            shutil.rmtree(tmp_path / "cache/index")
        return probe(settings, 2)

    def check(rows: list[Any]) -> None:
        found = {Path(row.path).stem: row for row in rows}
        assert {name for name in OTHERS if found[name].status == "ok"} == OTHERS
        assert all(found[name].n_frames == 6 for name in OTHERS)
        victim = found[VICTIM]
        assert victim.status == "ok" or (victim.status == "unreadable" and victim.reason)

    check_each_step(step, check, least=4 if is_indexed else 12)


@pytest.mark.parametrize("has_index", [True, False])
def test_in_each_step_of_plan(run: Run, tmp_path: Path, has_index: bool):
    rows = probe(run.settings)

    def step() -> Plan:
        settings = fresh(run, tmp_path)
        if not has_index:
            shutil.rmtree(tmp_path / "cache/index")
        return make_plan(rows, settings, 2)[0]

    def check(plan: Plan) -> None:
        by_video: dict[str, list[tuple[int, int]]] = {}
        for segment in plan.segments:
            name = Path(plan.videos[segment.video].path).stem
            by_video.setdefault(name, []).append((segment.start, segment.stop))
        assert all(by_video[name] == [(0, 3), (3, 6)] for name in OTHERS)
        (victim,) = [video for video in plan.videos if VICTIM in video.path]
        assert (victim.status == "ok") == (VICTIM in by_video)
        assert victim.status == "ok" or victim.reason
        assert sorted(number for shard in plan.infer_shards for number in shard) == [
            *range(len(plan.segments))
        ]

    check_each_step(step, check, least=3 if has_index else 8)


@pytest.mark.parametrize("is_first", [True, False])
def test_in_each_step_of_assemble(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_first: bool
):
    """In the first run, and in one that finds the products of the run before."""
    monkeypatch.setattr("pvio.pipeline.results.snapshot._flush", lambda folder: None)  # takes long
    monkeypatch.setattr("pvio.pipeline.stages.assemble.WorkerPool", CallsHere)
    results = tmp_path / "results"

    def step() -> list[Any]:
        shutil.rmtree(results, ignore_errors=True)
        if not is_first:
            shutil.copytree("results", results)
        return assemble(run.plan, run.settings, run.receipts, results)

    def check(rows: list[Any]) -> None:
        found = {row.name: row for row in rows}
        for name in OTHERS:
            assert (found[name].status, found[name].ok) == ("ok", 6)
            assert len(pvio.read_predictions(results / f"predictions/{name}.parquet")["time"]) == 6
            assert (results / f"videos/{name}.mp4").exists()
        victim = found[VICTIM]
        assert victim.status == "ok" or victim.reason
        if victim.frames == 0:
            assert not (results / f"predictions/{VICTIM}.parquet").exists()
        if victim.status != "ok":
            assert not (results / f"videos/{VICTIM}.mp4").exists()

    check_each_step(step, check, least=15 if is_first else 3)


def test_in_each_step_of_verify(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pvio.pipeline.results.verify.Worker", CallsHere)

    def check(found: tuple[list[str], list[str]]) -> None:
        problems, warnings = found
        assert all(VICTIM in line for line in problems + warnings)

    check_each_step(lambda: verify(Path("results")), check, least=12)


@pytest.mark.parametrize("is_done", [True, False])
def test_in_each_step_of_status(run: Run, tmp_path: Path, is_done: bool):
    def step() -> Any:
        settings = fresh(run, tmp_path)
        if not is_done:
            shutil.rmtree(tmp_path / "cache/released")
        return status(settings, Path.cwd())

    def check(found: Any) -> None:
        assert found.videos == 3
        assert found.finished >= (2 if is_done else 0)
        described = [path for paths in found.reasons.values() for path in paths]
        assert all(VICTIM in path for path in described) or not is_done

    check_each_step(step, check, least=3)


# What concerns everybody


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/elsewhere"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/elsewhere"),
        OSError(errno.EROFS, "Read-only file system", "/elsewhere"),
        OSError(errno.EMFILE, "Too many open files", "/elsewhere"),
        OSError(errno.EIO, "Input/output error", "/data/cache/index/ab/abc"),
        PermissionError(errno.EACCES, "Permission denied", "/data/cache"),
        CacheError("no entry"),
        LostEntry("no entry", "video"),
        ConfigError("wrong"),
        ImportError("libtorch.so"),
    ],
    ids=repr,
)
def test_an_error_that_concerns_all_is_raised(error: Exception):
    with pytest.raises((type(error), NoSpaceLeft)):
        reason_for_video(error, "/videos/a.mp4", "indexing", "/data/cache")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "/data/cache2/a.mp4"),
        PermissionError(errno.EACCES, "Permission denied", "/videos/a.mp4"),
        MemoryError(),
        ModelError("it differs"),
        BrokenProcessPool("died"),
    ],
    ids=repr,
)
def test_other_errors_concern_one_video(error: Exception, caplog: pytest.LogCaptureFixture):
    assert not concerns_all(error, "/data/cache")
    with caplog.at_level(logging.ERROR):
        assert reason_for_video(error, "/videos/a.mp4", "indexing", "/data/cache")
    (record,) = caplog.records
    assert record.exc_info is not None  # the traceback is in the log
    assert "/videos/a.mp4" in record.getMessage()


def test_a_reason_is_one_line_that_says_what_was_raised():
    assert describe(KeyError("rate")) == "KeyError: 'rate' (see the log)"
    assert describe(ModelError("one\ntwo")) == "one two"
    assert describe(Peculiar(1, 2)) == "Peculiar (see the log)"
    assert len(describe(ValueError("x" * 5000))) == 300


@pytest.mark.parametrize(
    "error", [UnreadableVideo("/a.mp4", "it is empty"), LostEntry("no entry", "video")]
)
def test_errors_come_back_from_another_process_as_they_are(error: Exception):
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_an_installation_that_reads_no_video_is_no_matter_of_the_videos(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probe_module, "_index", failing_index.unforeseen)
    settings = run.settings.model_copy(update={"cache": str(tmp_path)})
    with pytest.raises(PvioError, match=r"none of 3 videos can be indexed.*'av'"):
        probe(settings)


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (failing_index.crash, "it crashed (SIGABRT)"),
        (failing_index.hang, "FFmpeg hangs at it: nothing was read for 5 s"),
        (failing_index.eat, "it ran out of memory"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_video_at_which_indexing_crashes_hangs_or_eats_memory_costs_itself(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[..., Any],
    message: str,
    threads: int,
):
    monkeypatch.setattr(probe_module, "_index", fail)
    monkeypatch.setattr("pvio.concurrency.child_process.free_memory", lambda: 300 << 20)
    changes = {"cache": str(tmp_path), "decoder_timeout": 5.0}
    settings = run.settings.model_copy(update=changes)
    found = {Path(row.path).stem: row for row in probe(settings, threads)}
    assert {name for name, row in found.items() if row.status == "ok"} == OTHERS
    assert message in found[VICTIM].reason
