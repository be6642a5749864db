"""Settings on their way from the user to the jobs, through Snakemake itself."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from projects import REPOSITORY, Project, make_clip, pvio_path
from snakemake_server import snakemake_server

from pvio.config.load import load_settings

# What a model is given; `types.txt` shows what it got.
RECORDER = """
class Recorder:
    def __init__(self, **args):
        with open("types.txt", "a") as file:
            file.write(repr(sorted(args.items())) + "\\n")

    def __call__(self, frames):
        return frames.float().mean(dim=(1, 2, 3))
"""
ARGS: dict[str, Any] = {
    "small": 1e-5,
    "large": 1e20,
    "nan": math.nan,
    "inf": math.inf,
    "mouse": "🐭",
    "session": "2024_01",
    "day": "2024-01-05",
    "on": "on",
    "null": "null",
    "nothing": None,
    "true": True,
    "quote": 'it\'s \\ "so"',
    "list": [1, "2", 3.5],
    "map": {"a": {"b": [None, False]}},
}


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    project = new_project()
    (project.folder / "recorder.py").write_text(RECORDER)
    make_clip(project.folder / "clips/🐭.mp4", frames=4)
    return project


def without_defaults(project: Project, *options: str) -> subprocess.CompletedProcess[str]:
    """Snakemake, without the defaults of `config.yaml`."""
    arguments = ["-s", str(REPOSITORY / "Snakefile"), "--cores", "1", *options]
    return snakemake_server().run(arguments, project.folder, pvio_path(), timeout=200)


def snakemake(project: Project, *options: str) -> str:
    """A run of the rule that writes settings, without the defaults of `config.yaml`; its errors."""
    done = without_defaults(project, "-q", "--until", "settings", *options)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr if done.returncode else ""


def given_to_jobs(project: Project) -> dict[str, Any]:
    """All keys of the files of settings that the rules name."""
    found: dict[str, Any] = {}
    for path in (project.folder / "work/settings").glob("*.json"):
        settings = load_settings(str(path))
        found |= settings.model_dump(exclude_defaults=True)
    return found


def write(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


YAML = """
videos: [clips]
staging_dir: null
cache: "2024_01"
output: {video: none}
model:
  entry: recorder.py:Recorder
  size: null
  args:
    small: 0.00001
    large: 1.0e+20
    nan: .nan
    inf: .inf
    mouse: 🐭
    session: "2024_01"
    day: "2024-01-05"
    "on": "on"
    "null": "null"
    nothing: null
    "true": true
    quote: "it's \\\\ \\"so\\""
    list: [1, "2", 3.5]
    map: {a: {b: [null, false]}}
"""


@pytest.mark.parametrize("way", ["--configfile", "--config", "--workflow-profile"])
def test_jobs_are_given_what_was_written(project: Project, way: str) -> None:
    folder = project.folder
    if way == "--configfile":
        options = [write(folder / "lab.yaml", YAML)]
    elif way == "--workflow-profile":
        indented = YAML.replace("\n", "\n  ")
        write(folder / "profile/config.yaml", f"config:{indented}\n")
        options = [str(folder / "profile")]
    else:
        model = {"entry": "recorder.py:Recorder", "size": None, "args": ARGS}
        options = [
            "videos=['clips']",
            "staging_dir=null",
            "cache=2024_01",
            'output={video: "none"}',
        ]
        options += [f"model={json.dumps(model)}"]
    assert snakemake(project, way, *options) == ""
    found = given_to_jobs(project)
    assert (found["videos"], found["cache"], found["output"]) == (
        *(["clips"], "2024_01"),
        {"video": "none"},
    )
    assert "staging_dir" not in found
    assert repr(sorted(found["model"]["args"].items())) == repr(sorted(ARGS.items()))


def test_snakemake_called_by_its_path_gives_the_model_its_arguments(project: Project) -> None:
    # As cron does: no PATH but the system's, and no environment.
    write(project.folder / "config.yaml", YAML)
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), "-s", REPOSITORY / "Snakefile", "--cores=1"],
        cwd=project.folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + project.logs()
    assert project.summary()["🐭"]["status"] == "ok"
    assert (project.folder / "types.txt").read_text() == repr(sorted(ARGS.items())) + "\n"
    assert (project.folder / "2024_01/index").is_dir()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {args: {day: 2024-01-05}}", "2024-01-05 is a date in YAML; put it in quotes"),
        ("videos: clips\nvideos: more", "the key 'videos' occurs twice, in lines 1 and 2"),
        ("output: {options: {bff: 2}}", "output.options: libx264 reports: unknown option bff"),
        pytest.param(
            *("model: {args: {n_animal: 1}}", "did you mean 'n_animals'?"),
            marks=pytest.mark.thorough,
        ),
        pytest.param("output:\n\tcrf: 3", "indent with spaces", marks=pytest.mark.thorough),
    ],
)
def test_what_cannot_be_meant_is_one_error_before_any_job(
    project: Project, text: str, message: str
) -> None:
    write(project.folder / "config.yaml", text)
    assert message in snakemake(project, "--config", "videos=clips")
    assert not (project.folder / "work").exists()


def test_a_model_that_cannot_be_built_is_reported_once(project: Project) -> None:
    (project.folder / "picky.py").write_text(
        "class Picky:\n"
        "    def __init__(self, n):\n"
        "        if n < 1:\n"
        "            raise ValueError('n is too small')\n"
    )
    make_clip(project.folder / "clips/long.mp4", frames=30, options="-g 10")
    done = project.snakemake(
        videos=["clips"],
        segment_frames=10,
        shards=1,
        model={"entry": "picky.py:Picky", "args": {"n": 0}},
    )
    assert done.returncode != 0
    (log,) = (project.folder / "logs/infer").glob("*.log")
    text = log.read_text()
    assert text.count("Traceback") == 1
    error = "model.entry: picky.py:Picky could not be built with args {'n': 0}: n is too small"
    assert text.endswith(f"Error: {error}\n")


def test_sigterm_to_snakemake_alone_ends_a_job_that_started_itself_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With torchcodec a job may be executed anew, as `python -m pvio`.
    (project.folder / "slow.py").write_text(
        "import time\n\ndef model(frames):\n    open('started', 'w').close()\n    time.sleep(300)\n"
    )
    settings: dict[str, Any] = {
        "videos": ["clips"],
        "decoder": "torchcodec",
        "model": {"entry": "slow.py:model", "channels": "rgb"},
        "output": {"video": "none"},
    }
    with project.started(**settings, shards=1) as process:
        while not (project.folder / "started").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        jobs = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert "Error: terminated (SIGTERM)" in project.logs()
    _, alive = psutil.wait_procs(jobs, timeout=20)
    assert alive == []


def test_status_takes_what_snakemake_was_given(project: Project) -> None:
    write(project.folder / "config.yaml", "videos: clips\noutput: {video: none}\n")
    write(project.folder / "lab.yaml", "model: {entry: recorder.py:Recorder}\n")

    def status(*options: str) -> str:
        command = [sys.executable, "-m", "pvio", "status", *options]
        return subprocess.run(
            command, cwd=project.folder, capture_output=True, text=True, check=True
        ).stdout

    lab = ["--configfile", "lab.yaml"]
    done = without_defaults(project, *lab)
    assert done.returncode == 0, done.stderr
    assert "nothing to compute" in status("--config", "lab.yaml")
    assert "nothing to compute" in status(*lab, "--config", "segment_frames=300")
    assert "to do since model.entry changed" in status()


def test_the_old_name_of_a_setting_is_reported_once_and_works(project: Project) -> None:
    options = ["--until", "settings", "--config", "videos=clips", "stage=$TMPDIR"]
    done = without_defaults(project, *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("stage is now called staging_dir") == 1
    assert given_to_jobs(project)["staging_dir"] == "$TMPDIR"
    both = without_defaults(project, *options, "staging_dir=/fast")
    assert both.returncode != 0
    assert "stage: '$TMPDIR' and staging_dir: '/fast'" in both.stderr
