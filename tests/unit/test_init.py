"""`pvio init`: files to start with."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pvio.cli import main
from pvio.cli.init import _CHANGES
from pvio.config.load import load_settings
from pvio.config.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


@pytest.mark.parametrize("line", _CHANGES)
def test_each_line_that_is_changed_is_in_config_yaml(repository: Path, line: str):
    assert (repository / "config.yaml").read_text(encoding="utf-8").count(line) == 1


def test_the_settings_are_the_defaults_but_for_videos_and_model(folder: Path):
    assert init().exit_code == 0
    settings, plain = load_settings("config.yaml"), Settings()
    assert (settings.videos, settings.model.entry) == (["videos"], "model.py:Model")
    model = settings.model.model_copy(update={"entry": plain.model.entry})
    assert settings.model_copy(update={"videos": plain.videos, "model": model}) == plain
    compile((folder / "model.py").read_text(encoding="utf-8"), "model.py", "exec")


@pytest.mark.parametrize("there", ["config.yaml", "model.py"])
def test_existing_files_are_kept(folder: Path, there: str):
    (folder / there).write_text("mine")
    done = init()
    assert done.exit_code == 1
    assert f"{there} would be overwritten; --force does so" in done.output
    assert [path.name for path in folder.iterdir()] == [there]
    assert (folder / there).read_text() == "mine"


def test_force_overwrites_them(folder: Path):
    init()
    fresh = {path.name: path.read_text() for path in folder.iterdir()}
    for name in fresh:
        (folder / name).write_text("mine")
    assert init("--force").exit_code == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == fresh
    assert set(fresh) == {"config.yaml", "model.py"}


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [([], "Next: put your videos"), (["own/model"], "Next: cd own/model; put your videos")],
)
def test_the_next_step_is_said(folder: Path, arguments: list[str], begin: str):
    done = init(*arguments)
    place = "".join(f"{each}/" for each in arguments)
    assert done.output.splitlines()[:2] == [f"wrote {place}config.yaml", f"wrote {place}model.py"]
    assert done.output.splitlines()[2].startswith(begin)
    assert done.output.rstrip().endswith("`pvio run --cores all`.")
    assert (folder / place / "model.py").exists()
