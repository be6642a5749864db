"""What may go wrong during a run, provoked for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from projects import Project, make_clip

import pvio

NO_VIDEO = {"video": "none"}
MODEL = {"entry": "brightness.py:Brightness"}
OVERLAY = {"video": "overlay", "preset": "ultrafast"}
# Encoded without loss it takes some MB.
NOISY = "-g 20 -vf noise=alls=60:allf=t"


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    """Two clips, one of them long enough for three segments."""
    project = new_project()
    make_clip(project.folder / "clips/long.mp4", frames=60, options="-g 10")
    make_clip(project.folder / "clips/short.mp4", frames=12)
    return project


def settings(**more: object) -> dict[str, object]:
    return {
        **{"videos": ["clips"], "segment_frames": 20, "shards": 1, "model": MODEL},
        **{"output": NO_VIDEO, **more},
    }


def model(project: Project, code: str, **more: object) -> dict[str, object]:
    (project.folder / "own.py").write_text(code)
    return {"entry": "own.py:model", "batch_size": 20, **more}


# A model at work


# How a model fails at the frames of one video, and a part of the reason that is reported.
ENDINGS = (
    ("os.kill(os.getpid(), signal.SIGKILL)", "lower model.batch_size"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "the process crashed (SIGSEGV)"),
    ("os._exit(3)", "the process ended with exit code 3"),
    ("raise SystemExit(4)", "SystemExit: 4"),
    ("raise MemoryError('cannot allocate memory')", "Lower model.batch_size or model.size"),
    ("raise ValueError('no animal')", "no animal"),
    ("return {'brightness': frames}, 1", "must return a Tensor or a dict"),
    ("return frames.mean(dim=(1, 2, 3))[:-1]", "must be a Tensor with one row per frame"),
)
DYING = """
import os, signal
from pathlib import Path

class model:
    def __call__(self, frames):
        if not Path("fixed").exists():
            width = frames.shape[-1]
{cases}
        return {{"brightness": frames.mean(dim=(1, 2, 3))}}
"""


def test_a_model_that_fails_or_crashes_costs_one_video(project: Project) -> None:
    """A model that ends its process, or eats all memory, too."""
    cases = []
    for number, (how, _) in enumerate(ENDINGS):
        width = 80 + 2 * number
        # Good ones between them, which continue in whatever process.
        make_clip(project.folder / f"clips/{number} bad.mp4", frames=20, size=f"{width}x48")
        make_clip(project.folder / f"clips/{number} good.mp4", frames=12)
        cases.append(f"            if width == {width}:\n                {how}")
    changed = settings(model=model(project, DYING.format(cases="\n".join(cases))))
    done = project.snakemake(**changed)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"{len(ENDINGS)} video(s) failed; the results of the others are written" in text
    rows = project.summary()
    bad = [f"{number} bad" for number in range(len(ENDINGS))]
    good = [*(f"{number} good" for number in range(len(ENDINGS))), "long", "short"]
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(bad, "failed"),
        **dict.fromkeys(good, "ok"),
    }
    for name, (how, message) in zip(bad, ENDINGS, strict=True):
        assert message in text, how
        assert message in rows[name]["reason"], how
        assert "frames 0 to 19 failed: " in rows[name]["reason"], how
    products = {path.name for path in (project.folder / "results/predictions").iterdir()}
    assert products == {f"{name}.parquet" for name in good}
    # Once the cause is fixed, the same command computes these segments alone.
    (project.folder / "fixed").touch()
    project.run(**changed)
    assert project.n_computed("infer") == len(ENDINGS)
    assert {row["status"] for row in project.summary().values()} == {"ok"}


def test_the_same_command_tries_again_what_failed_and_this_alone(project: Project) -> None:
    # Fails in its first run and in the second.
    code = """
from pathlib import Path

def model(frames):
    if len(frames) == 12:
        tries = Path("tries")
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if len(tries.read_text()) < 3:
            raise ValueError("not yet")
    return frames.mean(dim=(1, 2, 3))
"""
    changed = settings(model=model(project, code))
    # Marked, the run ends well, and the next one tries again all the same. test_dry_runs.py shows
    # that Snakemake starts it.
    project.stages(**changed, on_failed="mark")
    assert project.summary()["short"]["status"] == "failed"
    assert project.tried_stages(**changed).returncode != 0
    project.stages(**changed)
    log = (project.folder / "logs/infer/1-of-1.log").read_text()
    assert "4 segment(s), 3 finished before, 1 to do (12 frames)" in log
    assert {row["status"] for row in project.summary().values()} == {"ok"}


def test_what_a_video_had_before_it_failed_is_removed(project: Project) -> None:
    """Old rows are not taken for those of the new model; nothing at all is no result, either."""
    project.stages(**settings(output=OVERLAY))
    code = """
from pathlib import Path

def model(frames):
    if len(frames) == 12 or Path("hopeless").exists():
        raise ValueError("no animal")
    return frames.mean(dim=(1, 2, 3))
"""
    changed = settings(model=model(project, code), output=OVERLAY)
    done = project.tried_stages(**changed)
    assert done.returncode != 0
    assert "Traceback" in project.logs()
    names = {path.name for path in project.folder.glob("results/*/*")}
    assert names == {"long.parquet", "long.mp4"}
    assert "no animal" in project.summary()["short"]["reason"]
    assert project.summary()["long"]["status"] == "ok"
    # Where all fail, the results stay as they are.
    (project.folder / "hopeless").touch()
    changed = settings(model=model(project, code + "# another\n"), output=OVERLAY)
    done = project.tried_stages(**changed)
    assert done.returncode != 0
    assert "results are unchanged" in done.stdout + done.stderr
    assert {path.name for path in project.folder.glob("results/*/*")} == names
    # As soon as one succeeds, it has results again.
    (project.folder / "hopeless").unlink()
    assert project.tried_stages(**changed).returncode != 0
    assert project.n_computed("infer") == 3
    assert {path.name for path in project.folder.glob("results/*/*")} == names


def test_a_model_whose_drawing_fails_costs_one_video(project: Project) -> None:
    code = """
class model:
    def __call__(self, frames):
        return frames.mean(dim=(1, 2, 3))

    def draw(self, frame, row):
        if row["frame"] == 30:
            raise ValueError("no paint")
"""
    done = project.tried_stages(**settings(model=model(project, code), output=OVERLAY))
    assert done.returncode != 0
    rows = project.summary()
    assert rows["short"]["status"] == "ok"
    assert rows["long"]["status"] == "failed"
    assert "1 of 3 segments failed, the first at frames 20 to 39" in rows["long"]["reason"]
    assert "no paint" in rows["long"]["reason"]
    names = {path.name for path in project.folder.glob("results/*/*")}
    assert names == {"long.parquet", "short.parquet", "short.mp4"}


def test_outputs_that_differ_between_segments_cost_one_video(project: Project) -> None:
    code = """
import torch

calls = 0

def model(frames):
    global calls
    calls += 1
    return {"boxes": torch.zeros(len(frames), 1 + (calls == 2))}
"""
    done = project.tried_stages(**settings(model=model(project, code)))
    assert done.returncode != 0
    reason = project.summary()["long"]["reason"]
    assert "'boxes' is float of shape (1,) for frames 0 to 19 and float of shape (2,)" in reason
    assert project.summary()["short"]["status"] == "ok"


def test_a_model_that_leaks_continues_in_new_processes(project: Project) -> None:
    """The process may take 400 MB more than it has; a segment leaks 150 MB."""
    code = """
import resource

kept = []

def model(frames):
    if not kept:
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (400 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept.append(bytes(150 << 20))
    return frames.mean(dim=(1, 2, 3))
"""
    project.run(**settings(model=model(project, code)))
    assert project.n_computed("infer") == 4
    log = (project.folder / "logs/infer/1-of-1.log").read_text()
    assert "it is restarted" in log


def test_memory_that_runs_out_says_what_to_lower(project: Project) -> None:
    code = "import torch\ndef model(frames):\n    return torch.empty(10**15)\n"
    done = project.snakemake(**settings(model=model(project, code)))
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Lower model.batch_size or model.size, or run fewer jobs" in text


def test_nan_is_kept_and_counted(project: Project) -> None:
    code = """
def model(frames):
    values = frames.mean(dim=(1, 2, 3))
    values[1::2] = float("nan")
    angle = values.clone()
    angle[0] = float("inf")
    return {"x": values, "y": values, "angle": angle}
"""
    project.stages(**settings(model=model(project, code)))
    row = project.summary()["short"]
    assert row["status"] == "ok"
    assert row["reason"] == (
        "x, y are NaN or infinite in 6 rows; angle is NaN or infinite in 7 rows"
    )
    rows = pvio.read_predictions(project.folder / "results/predictions/short.parquet")
    assert list(np.isnan(rows["x"])) == [False, True] * 6


def test_a_decoder_that_crashes_costs_frames_of_one_video(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "path").mkdir()
    (project.folder / "path/sitecustomize.py").write_text(
        """
import os, signal
from pvio.media.decoders.pyav import PyAVReader

frames = PyAVReader.frames

def crashing(self, start, stop):
    for decoded in frames(self, start, stop):
        if decoded.number == 25 and self.index.path.endswith("long.mp4"):
            os.kill(os.getpid(), signal.SIGSEGV)
        yield decoded

PyAVReader.frames = crashing
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(project.folder / "path"))
    project.run(**settings(output=OVERLAY))
    summary = project.summary()
    assert summary["short"]["status"] == "ok"
    assert summary["long"]["reason"] == "of 60 rows 5 missing; the decoder crashed at frame 25"
    rows = pvio.read_predictions(project.folder / "results/predictions/long.parquet")
    assert list(np.flatnonzero(rows["status"] == "missing")) == list(range(25, 30))


# What becomes of videos in the middle of their job, by the widths of their frames.
CHANGING = """
import shutil
from collections import Counter
from pathlib import Path

calls = Counter()

def model(frames):
    width = frames.shape[-1]
    calls[width] += 1
    if calls[width] == 2 and Path("others").exists():
        if width == 80:
            Path("clips/removed.mp4").unlink()
        if width == 82:
            shutil.copy("others/written.mp4", "clips/written.mp4")
        if width == 84:
            Path("others/replaced.mp4").rename("clips/replaced.mp4")
    return frames.mean(dim=(1, 2, 3))
"""


def test_a_video_that_changes_during_its_job_is_not_mixed_up(project: Project) -> None:
    """No rows of the new content are kept for the old one."""
    clips, originals = project.folder / "clips", {}
    for name, size in (("removed", "80x48"), ("written", "82x48"), ("replaced", "84x48")):
        clip = make_clip(clips / f"{name}.mp4", frames=60, size=size, options="-g 10")
        originals[name] = clip.read_bytes()
        make_clip(
            project.folder / f"others/{name}.mp4",
            frames=60,
            size=size,
            options="-g 10 -vf negate",
        )
    own = model(project, CHANGING)
    project.stages(**settings(model=own))
    rows = project.summary()
    for name in originals:
        assert rows[name]["status"] == "unreadable", name
    assert "no such file" in rows["removed"]["reason"].lower()
    for name in ("written", "replaced"):
        assert "changed during the run" in rows[name]["reason"]
    assert rows["long"]["status"] == rows["short"]["status"] == "ok"
    # Once the first ones are back, the same command looks at them again.
    shutil.rmtree(project.folder / "others")
    for name, content in originals.items():
        (clips / f"{name}.mp4").write_bytes(content)
    project.stages(**settings(model=own))
    assert {row["status"] for row in project.summary().values()} == {"ok"}
    predictions = project.folder / "results/predictions"
    found = {name: (predictions / f"{name}.parquet").read_bytes() for name in originals}
    project.stages(**settings(model=own, cache="another"))
    for name, content in found.items():
        assert (predictions / f"{name}.parquet").read_bytes() == content


def test_a_disk_that_is_away_does_not_empty_the_results(project: Project) -> None:
    project.stages(**settings())
    before = {path.name for path in project.folder.glob("results/predictions/*")}
    code = """
from pathlib import Path

def model(frames):
    if Path("away").exists():
        Path("clips").rename("gone")
        Path("away").unlink()
    return frames.mean(dim=(1, 2, 3))
"""
    (project.folder / "away").touch()
    changed = settings(model=model(project, code))
    done = project.tried_stages(**changed)
    assert done.returncode != 0
    assert "Check that their disk is mounted" in done.stdout + done.stderr
    assert {path.name for path in project.folder.glob("results/predictions/*")} == before
    (project.folder / "gone").rename(project.folder / "clips")
    project.stages(**changed)
    assert {row["status"] for row in project.summary().values()} == {"ok"}


def test_clocks_that_jump_do_not_matter(project: Project) -> None:
    project.run(**settings())
    # Everything from the future, and from long ago.
    for number, path in enumerate(sorted(project.folder.rglob("*"))):
        os.utime(path, (time.time() + (10**7 if number % 2 else -(10**8)),) * 2)
    make_clip(project.folder / "clips/new.mp4")
    os.utime(project.folder / "clips/new.mp4", (1, 1))
    project.run(**settings())
    assert {row["status"] for row in project.summary().values()} == {"ok"}
    assert len(project.summary()) == 3
    assert sum(receipt["segments"][0]["computed"] for receipt in project.receipts("infer")) <= 1


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


FILLING = """
import torch

def model(frames):
    return {"noise": torch.rand(len(frames), SIZE), "b": frames.mean(dim=(1, 2, 3))}
"""


@pytest.mark.parametrize("what", ["index", "predictions", "video"])
def test_a_full_disk_stops_the_job_and_costs_nothing_that_is_done(
    project: Project, small_disk: Path, what: str
) -> None:
    """The cache lies on a disk that is full when the index, a table or a video is written."""
    output = {"video": "overlay", "crf": 0, "preset": "ultrafast"} if what == "video" else NO_VIDEO
    if what == "video":
        make_clip(project.folder / "clips/large.mp4", frames=60, size="640x480", options=NOISY)
    size = 40_000 if what == "predictions" else 10
    own = model(project, FILLING.replace("SIZE", str(size)), batch_size=5)
    changed = settings(model=own, output=output, cache=str(small_disk / "cache"))
    ballast = small_disk / "ballast"
    if what == "index":
        ballast.write_bytes(bytes(1_900_000))
        with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
    done = project.tried_stages(**changed)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "no space is left" in text, text + project.logs()
    assert "Free some space" in text
    ballast.unlink(missing_ok=True)
    assert not list((small_disk / "cache/tmp").glob(".*")) or what == "index"
    done_before = {path: path.stat().st_ino for path in small_disk.glob("cache/pred*/*/*")}
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    project.stages(**changed)
    assert {row["status"] for row in project.summary().values()} == {"ok"}
    after = {path: path.stat().st_ino for path in small_disk.glob("cache/pred*/*/*")}
    assert done_before.items() <= after.items()


def test_a_full_disk_under_the_results_leaves_the_old_ones(
    project: Project, small_disk: Path
) -> None:
    work = Project(small_disk)
    shutil.copy(project.folder / "brightness.py", small_disk)
    clips = str(project.folder / "clips")
    cache = str(project.folder / "cache")
    first = settings(videos=[clips], cache=cache, output=OVERLAY)
    work.run(**first)
    videos = small_disk / "results/videos"
    before = {path.name: path.read_bytes() for path in videos.iterdir()}
    make_clip(project.folder / "clips/large.mp4", frames=60, size="640x480", options=NOISY)
    changed = settings(videos=[clips], cache=cache, output={**OVERLAY, "crf": 0})
    done = work.snakemake(**changed)
    assert done.returncode != 0
    assert "no space is left" in done.stdout + done.stderr
    assert {path.name: path.read_bytes() for path in videos.iterdir()} == before
    assert list(small_disk.glob(".results*")) == []
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    work.run("--rerun-incomplete", **changed)
    assert len(work.summary()) == 3
    assert {row["status"] for row in work.summary().values()} == {"ok"}
    assert list(small_disk.glob(".results*")) == []


def test_a_read_only_folder_of_videos_is_enough(project: Project, tmp_path: Path) -> None:
    clips = project.folder / "clips"
    mounted = subprocess.run(
        f"mount --bind '{clips}' '{clips}' && mount -o remount,bind,ro '{clips}'",
        shell=True,
        capture_output=True,
        check=False,
    )
    try:
        if mounted.returncode == 0:
            with pytest.raises(OSError, match="Read-only"):
                (clips / "note").touch()
        else:
            clips.chmod(0o555)
        project.stages(**settings(output=OVERLAY))
        assert {row["status"] for row in project.summary().values()} == {"ok"}
    finally:
        subprocess.run(["umount", "--lazy", str(clips)], capture_output=True, check=False)
        clips.chmod(0o755)


# Runs next to each other, and their end


def test_two_runs_in_one_folder_are_refused_with_what_to_do(project: Project) -> None:
    slow = settings(model=model(project, "import time\n" + SLOW))
    with project.started(**slow) as process:
        while not list(project.folder.glob(".pvio/predictions/*/*")):
            assert process.poll() is None
            time.sleep(0.05)
        second = project.snakemake(**slow)
        assert second.returncode != 0
        assert "--unlock" in second.stdout + second.stderr
        process.communicate(timeout=120)
        assert process.returncode == 0


SLOW = """
def model(frames):
    time.sleep(0.5)
    return {"brightness": frames.mean(dim=(1, 2, 3))}
"""


def test_two_runs_may_share_a_cache(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    other.folder.mkdir()
    own = model(project, "import time\n" + SLOW)
    shutil.copy(project.folder / "own.py", other.folder)
    cache, clips = str(tmp_path / "shared"), str(project.folder / "clips")
    shared = settings(videos=[clips], cache=cache, model=own, output=OVERLAY)
    with project.started(**shared) as one, other.started(**shared) as two:
        for process in (one, two):
            out, error = process.communicate(timeout=200)
            assert process.returncode == 0, out + error
    for name in ("predictions/long.parquet", "predictions/short.parquet", "videos/long.mp4"):
        found = [(each.folder / "results" / name).read_bytes() for each in (project, other)]
        assert found[0] == found[1]
    assert not list((tmp_path / "shared/tmp").iterdir())


@pytest.mark.parametrize(
    ("how", "whom", "stage"),
    [
        (signal.SIGINT, "group", "infer"),
        (signal.SIGTERM, "snakemake", "infer"),
        (signal.SIGTERM, "group", "encode"),
        pytest.param(signal.SIGTERM, "group", "infer", marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, "group", "encode", marks=pytest.mark.thorough),
        pytest.param(signal.SIGTERM, "snakemake", "encode", marks=pytest.mark.thorough),
    ],
)
def test_ctrl_c_and_sigterm_end_within_five_seconds(
    project: Project, how: signal.Signals, whom: str, stage: str
) -> None:
    ended = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "terminated (SIGTERM)"}
    code = """
import time
from pathlib import Path

class model:
    def __call__(self, frames):
        Path("infer").touch()
        time.sleep(SECONDS)
        return {"brightness": frames.mean(dim=(1, 2, 3))}

    def draw(self, canvas, row):
        Path("encode").touch()
        time.sleep(0.5)
""".replace("SECONDS", "10" if stage == "infer" else "0")
    slow = settings(model=model(project, code), output=OVERLAY)
    with project.started(**slow) as process:
        while not (project.folder / stage).exists():  # the model is at work
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        began = time.monotonic()
        if whom == "group":
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        process.communicate(timeout=60)
        elapsed = time.monotonic() - began
    assert process.returncode != 0
    assert elapsed < 5
    # As from a scheduler or a person: the log says that it was no error of the job.
    assert f"Error: {ended[how]}" in project.logs()
    temporaries = project.folder / ".pvio/tmp"
    for _ in range(20):
        if not list(temporaries.iterdir()):
            break
        time.sleep(0.1)
    assert not list(temporaries.iterdir())


# Names and settings


def test_lists_and_links_cannot_lead_results_out_of_their_folder(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("elsewhere") / "deep"
    outside.mkdir()
    shutil.copy(project.folder / "clips/short.mp4", outside / "far.mp4")
    (project.folder / "clips/link.mp4").symlink_to(outside / "far.mp4")
    (project.folder / "clips/folder").symlink_to(outside)
    lines = [
        f"clips/../../{project.folder.name}/clips/long.mp4",
        f"{outside}/../deep/far.mp4",
        "clips/link.mp4",
        "clips/folder",
    ]
    (project.folder / "list.txt").write_text("\n".join(lines))
    project.stages(**settings(videos=["list.txt"]))
    assert [path.name for path in outside.parent.rglob("*")] == ["deep", "far.mp4"]
    results = (project.folder / "results").resolve()
    products = [path.resolve() for path in results.rglob("*.parquet")]
    assert len(products) == 4
    assert all(results in path.parents for path in products)


def test_settings_are_no_shell_commands(project: Project) -> None:
    (project.folder / "own.py").write_text(
        "class model:\n    def __init__(self, note):\n        self.note = note\n"
        "    def __call__(self, frames):\n        return frames.mean(dim=(1, 2, 3))\n"
    )
    project.run(
        **settings(
            model={"entry": "own.py:model", "args": {"note": "'; touch pwned; $(touch pwned)"}},
            cache=str(project.folder / "cache'; touch pwned; $(touch pwned) `touch pwned`"),
        )
    )
    assert not list(project.folder.rglob("pwned*"))
    assert {row["status"] for row in project.summary().values()} == {"ok"}
