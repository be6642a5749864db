"""Names that break tables, terminals and file systems; folders that come, go and cannot be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import Project, make_clip

import pvio
from pvio.collection.names import read_names
from pvio.pipeline.results.summary import read_summary
from pvio.pipeline.results.verify import verify

MODEL = {"entry": "brightness.py:Brightness"}
OVERLAY = {"video": "overlay", "preset": "ultrafast"}
# File names and the names of their results, where they matter.
HOSTILE: dict[str, str | None] = {
    "good.mp4": "good",
    "caf\udce9.mp4": "caf~xE9",
    "ex\udce9/in it.mp4": "ex~xE9/in it",
    "L" * 251 + ".mp4": None,
    "F" * 255 + "/a.mp4": None,
    "a.avi": "a.avi",
    "a.mp4/b.mp4": "a.mp4/b",
    "c.avi": "c.avi",
    "c.parquet/b.mp4": "c.parquet/b",
    "u\u2028sep.mp4": "u~u2028sep",
    "n\x85l.mp4": "n~u0085l",
    "v\x0bt\x0cf\x1cs.mp4": "v~x0Bt~x0Cf~x1Cs",
    "a\nError: call 0900-EVIL\x1b[2J.mp4": "a~x0AError: call 0900-EVIL~x1B[2J",
    "=1+1.mp4": "=1+1",
    "-dash.mp4": "-dash",
    '"quoted.mp4': '"quoted',
    "back\\slash\t.mp4": "back\\slash~x09",
}
# What would do something in a shell, a page, a pattern or a format, alone and in a folder.
ACTIVE = (
    *("a; touch pwned", "$(touch pwned)", "`touch pwned`", "a'b\"c", "<script>alert(1)<", "-rf"),
    *("a&b|c", "line\nbreak", "{wildcard}", "%s{0}", "ö ü", "a..b", "~", "*", "[a]"),
)
HOSTILE |= {
    f"{'<b>&' if number % 2 else 'sub; touch pwned'}/{name}.mp4": None
    for number, name in enumerate(ACTIVE)
}


@pytest.fixture
def hostile(new_project: Callable[[], Project]) -> Project:
    """A folder of videos with such names, one of them unreadable, in a folder that is no UTF-8."""
    project = new_project()
    inner = Path(os.fsdecode(os.fsencode(project.folder) + b"/lab \xe9"))
    inner.mkdir()
    shutil.move(project.folder / "brightness.py", inner)
    clip = make_clip(project.folder / "clip.mp4", frames=3)
    for name in HOSTILE:
        path = inner / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, path)
    (inner / "clips" / "bad\nError: \x1b[2J.mp4").write_bytes(b"no video")
    project.folder = inner
    return project


def test_videos_of_any_name_have_their_results(hostile: Project) -> None:
    done = hostile.snakemake(videos=["clips"], model=MODEL, output=OVERLAY)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed + hostile.logs()
    rows = {row["path"]: row for row in read_summary(hostile.folder / "results/summary.tsv")}
    assert len(rows) == len(HOSTILE) + 1
    for file, name in HOSTILE.items():
        row = rows[str(hostile.folder / "clips" / file)]
        assert (row["status"], row["reason"]) == ("ok", ""), file
        assert name is None or row["name"] == name
        path = hostile.folder / f"results/predictions/{row['name']}.parquet"
        predictions = pvio.read_predictions(path)
        assert len(predictions["frame"]) == 3
        assert predictions.metadata["source"] == row["path"]
        assert (hostile.folder / f"results/videos/{row['name']}.mp4").is_file()
    assert f"1 of {len(HOSTILE) + 1} videos are not ok" in printed
    assert not list(hostile.folder.rglob("pwned*"))
    page = (hostile.folder / "results/report.html").read_text()
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    assert "<b>&" not in page
    before = os.getcwd()
    os.chdir(hostile.folder)
    try:
        errors, _ = verify(Path("results"))
    finally:
        os.chdir(before)
    assert errors == []
    for text in (printed, hostile.logs(), (hostile.folder / "results/report.html").read_text()):
        assert not {"\x1b", "\u2028", "\x85", "\x0b"} & set(text)
        assert "\nError:" not in text
    again = hostile.snakemake(videos=["clips"], model=MODEL, output=OVERLAY)
    assert again.returncode == 0, again.stderr
    assert "Nothing to be done" in again.stdout + again.stderr


def test_lists_of_any_names_lead_to_them(hostile: Project) -> None:
    names = [name for name in HOSTILE if "\n" not in name and name[0] != '"']
    text = "\n".join(names) + "\n"
    (hostile.folder / "clips/list.txt").write_bytes(os.fsencode(text))
    hostile.stages(videos=["clips/list.txt"], model=MODEL, output={"video": "none"})
    rows = hostile.summary()
    assert len(rows) == len(names)
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_a_second_folder_adds_results_and_renames_none(new_project: Callable[[], Project]) -> None:
    project = new_project()
    for i, name in enumerate(("exp1/mouse_00", "exp1/mouse_01", "exp2/mouse_00")):
        make_clip(project.folder / f"{name}.mp4", frames=3 + i)
    fixed = {"model": MODEL, "output": {"video": "none"}}
    predictions = project.folder / "results/predictions"
    project.stages(videos=["exp1"], **fixed)
    first = {path: path.stat().st_ino for path in predictions.rglob("*.parquet")}
    assert sorted(path.name for path in first) == ["mouse_00.parquet", "mouse_01.parquet"]
    project.run(videos=["exp1", "exp2"], **fixed)
    second = {path: path.stat().st_ino for path in predictions.rglob("*.parquet")}
    assert first.items() <= second.items()
    assert (predictions / "exp2/mouse_00.parquet") in second
    assert "Nothing to be done" in project.run(videos=["exp1", "exp2"], **fixed)
    # Without the first folder, and in another place, which is reported.
    (project.folder / "exp2").rename(project.folder / "moved")
    text = project.run(videos=["moved"], **fixed)
    assert list(project.summary()) == ["mouse_00"]
    assert "exp2/mouse_00 is mouse_00" in text


def test_a_folder_that_cannot_be_read_leaves_the_results(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    for day in ("day1", "day2"):
        make_clip(project.folder / f"data/{day}/{day}.mp4", frames=3)
    fixed = {"model": MODEL, "output": {"video": "none"}}
    project.stages(videos=["data"], **fixed)
    before = sorted((project.folder / "results").rglob("*"))
    (project.folder / "data/day2").rename(project.folder / "elsewhere")
    (project.folder / "data/day2").symlink_to("not mounted")  # root may read any folder
    done = project.snakemake(videos=["data"], **fixed)
    assert done.returncode != 0
    assert "day2" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted((project.folder / "results").rglob("*")) == before
    assert set(read_names(project.folder / "results").values()) == {"day1/day1", "day2/day2"}


def test_what_is_passed_over_is_reported_once(new_project: Callable[[], Project]) -> None:
    project = new_project()
    make_clip(project.folder / "data/a.mp4", frames=3)
    for name in ("a.seq", "b.seq", "notes.md"):
        (project.folder / "data" / name).touch()
    text = project.run("--until", "probe", videos=["data"], model=MODEL)
    assert text.count("ignored 3 files: 2 .seq, 1 .md") == 1
    assert "ignored 3 files" in (project.folder / "logs/probe.log").read_text()
