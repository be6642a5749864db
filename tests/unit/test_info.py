"""`pvio info`: what it prints of videos and of folders."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from projects import make_clip

from pvio.cli import main


def test_a_folder_stands_for_its_videos_and_a_bad_one_costs_itself(tmp_path: Path):
    for name in ("a", "c"):
        make_clip(tmp_path / f"clips/{name}.mp4", frames=7)
    (tmp_path / "clips/b.mp4").write_bytes(b"no video")
    done = CliRunner().invoke(main, ["info", str(tmp_path / "clips")])
    assert done.exit_code == 1
    assert [line for line in done.stdout.splitlines() if not line.startswith("  ")] == [
        str(tmp_path / "clips/a.mp4"),
        str(tmp_path / "clips/c.mp4"),
    ]
    assert done.stdout.count("frames     7\n") == 2
    assert f"{tmp_path}/clips/b.mp4" in done.stderr


def test_a_folder_without_videos_is_an_error(tmp_path: Path):
    done = CliRunner().invoke(main, ["info", str(tmp_path)])
    assert done.exit_code == 1
    assert "no video and no image" in done.output
