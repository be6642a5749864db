"""`pvio run`: which arguments are videos, and how Snakemake is given them. No run is started."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from pathlib import Path

import click
import pytest
import yaml
from snakemake import cli

from pvio.cli.run import (
    _WITHOUT_JOBS,
    check_videos,
    run_workflow,
    set_videos,
    snakefile,
    split_arguments,
)
from pvio.errors import PvioError

LOOKS = ["-n", "--summary", "--lint", "--rulegraph", "--dag", "--list-changes=code", "--report"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video and a folder of videos."""
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "clips/b.mp4"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def split(*arguments: str) -> tuple[list[str], list[str]]:
    return split_arguments(arguments, cli.get_argument_parser())


def given(*options: str) -> argparse.Namespace:
    """What Snakemake reads from a command line with pvio's workflow, without any profile."""
    return cli.parse_args(
        ["--snakefile", str(snakefile()), "--workflow-profile", "none", *options]
    )[1]


def given_with_a_cluster(*options: str) -> argparse.Namespace:
    """The same, for jobs that run elsewhere; whether a plugin for them is installed or not."""
    args = given("--jobs", "2", *options)
    args.executor = "cluster-generic"
    return args


def videos_of(args: argparse.Namespace) -> list[list[str]]:
    """Each value of the setting `videos` that Snakemake is given on the command line."""
    entries = [entry.partition("=") for entry in args.config or []]
    return [json.loads(value) for key, _, value in entries if key == "videos"]


@pytest.mark.parametrize(
    ("arguments", "videos", "options"),
    [
        ("a.mp4 b.mp4", "a.mp4 b.mp4", ""),
        ("--cores 2 a.mp4 -n b.mp4", "a.mp4 b.mp4", "--cores 2 -n"),
        ("-c2 a.mp4 --executor=local", "a.mp4", "-c2 --executor=local"),
        ("a.mp4 --config shards=8 cache=b.mp4", "a.mp4", "--config shards=8 cache=b.mp4"),
        ("2 --cores 2", "2", "--cores 2"),
        ("a.mp4 --configfile b.yaml c.yaml -k", "a.mp4", "--configfile b.yaml c.yaml -k"),
        ("-n -- a.mp4 -n --cores", "a.mp4 -n --cores", "-n"),
        ("a.mp4 -n -- b.mp4", "a.mp4 b.mp4", "-n"),
        ("--config shards=8 -- a.mp4", "a.mp4", "--config shards=8"),
        ("-n", "", "-n"),
    ],
)
def test_videos_and_options_are_told_apart(arguments: str, videos: str, options: str):
    assert split(*arguments.split()) == (videos.split(), options.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--no-such-option a.mp4", "Snakemake has no option --no-such-option"),
        ("a.mp4 --cores", "expected one argument"),
        ("--config shards=8 a.mp4", "takes a.mp4 for a value of --config"),
        ("--configfile own.yaml clips", "takes clips for a value of --configfile"),
        ("--report a.mp4", "takes a.mp4 for a value of --report"),
        ("--forcerun infer A.MOV -n", "pvio run --forcerun ... -- A.MOV"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_snakemake_would_misread_is_refused(arguments: str, message: str):
    with pytest.raises(click.UsageError) as caught:
        split(*arguments.split())
    assert message in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_an_option_with_one_value_takes_one():
    assert split("--report", "report.html", "a.mp4")[0] == ["a.mp4"]
    assert split("--directory", "clips", "a.mp4") == (["a.mp4"], ["--directory", "clips"])


@pytest.mark.usefixtures("folder")
def test_videos_that_are_there_pass():
    check_videos(["a.mp4", "clips", "*.mp4", "none/*.avi", "images/%05d.png"])


@pytest.mark.usefixtures("folder")
def test_missing_videos_are_named_up_to_five():
    missing = [f"missing {number}.mp4" for number in range(7)]
    with pytest.raises(PvioError) as caught:
        check_videos(["a.mp4", *missing])
    message = str(caught.value)
    assert [name in message for name in missing] == [True] * 5 + [False] * 2
    assert "and 2 more" in message
    assert "'a.mp4'" not in message


@pytest.mark.usefixtures("folder")
def test_a_missing_video_ends_pvio_run_before_snakemake():
    with pytest.raises(PvioError, match=r"no such file or folder: 'missing\.mp4'"):
        run_workflow(["missing.mp4", "-n"])


@pytest.mark.usefixtures("folder")
def test_videos_take_the_place_of_the_setting():
    args = given("--config", "shards=2", 'videos=["other.mp4"]', "cache=there")
    set_videos(args, ["a.mp4", "it's.mp4"])
    assert videos_of(args) == [["a.mp4", "it's.mp4"]]
    assert args.config[:2] == ["shards=2", "cache=there"]
    assert not args.targets


def test_videos_are_seen_from_the_current_folder_and_not_from_that_of_the_run(folder: Path):
    args = given("--directory", "run")
    set_videos(args, ["a.mp4", "clips/*.mp4", "/data/c.mp4"])
    assert videos_of(args) == [[f"{folder}/a.mp4", f"{folder}/clips/*.mp4", "/data/c.mp4"]]


def test_a_folder_that_looks_like_a_pattern_stays_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "day[1]").mkdir()
    monkeypatch.chdir(tmp_path / "day[1]")
    args = given("--directory", "run")
    set_videos(args, ["*.mp4"])
    assert videos_of(args) == [[f"{tmp_path}/day[[]1]/*.mp4"]]


@pytest.mark.usefixtures("folder")
def test_without_videos_there_must_be_settings():
    with pytest.raises(PvioError, match="no videos: name some"):
        set_videos(given("-n"), [])


@pytest.mark.parametrize("settings", ["config.yaml", "config/config.yaml", "run/config.yaml"])
def test_without_videos_the_settings_stay(folder: Path, settings: str):
    path = folder / settings
    path.parent.mkdir(exist_ok=True)
    path.touch()
    args = given(*(["--directory", "run"] if path.parent.name == "run" else []))
    set_videos(args, [])
    assert args.config is None


@pytest.mark.parametrize("options", [["--config", "videos=clips"], ["--configfile", "a.yaml"]])
@pytest.mark.usefixtures("folder")
def test_without_videos_settings_of_the_command_line_do(options: list[str]):
    args = given(*options)
    set_videos(args, [])
    assert args.config == (options[1:] if options[0] == "--config" else None)


@pytest.mark.parametrize("place", [".", "run"])
def test_jobs_of_a_cluster_find_the_videos_in_a_file(folder: Path, place: str):
    (folder / "own.yaml").touch()
    options = ["--directory", place, "--configfile", "own.yaml", "--config", "videos=clips"]
    args = given_with_a_cluster(*options)
    set_videos(args, ["a.mp4"])
    (written,) = (folder / place / "work").iterdir()
    assert yaml.safe_load(written.read_text()) == {"videos": [f"{folder}/a.mp4"]}
    assert [Path(path) for path in args.configfile] == [Path("own.yaml"), written]
    assert args.config is None


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_writes_no_file(folder: Path, look: str):
    args = given_with_a_cluster(look)
    set_videos(args, ["a.mp4"])
    assert not (folder / "work").exists()
    assert videos_of(args) == [["a.mp4"]]


def test_a_report_after_the_run_is_no_look(folder: Path):
    set_videos(given_with_a_cluster("--report", "page.html", "--report-after-run"), ["a.mp4"])
    assert (folder / "work").exists()


def test_all_options_without_jobs_are_known():
    """As Snakemake chooses what to do by them."""
    text = inspect.getsource(cli.args_to_api)
    call = r"\n\s+(?:\w+ = )?(?:dag|workflow|snakemake)_api\.\w+\("
    chosen = set(re.findall(rf"if args\.(\w+)(?: is not None)?:{call}", text))
    assert {"summary", "unlock", "lint", "containerize"} <= chosen
    assert chosen <= set(_WITHOUT_JOBS)
    known = {action.dest for action in cli.get_argument_parser()._actions}
    assert set(_WITHOUT_JOBS) <= known
