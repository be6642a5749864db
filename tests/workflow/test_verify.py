"""`pvio verify` on finished results."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import BRIGHTNESS, Project, make_clip

MODEL = {"entry": "brightness.py:Brightness"}


pytestmark = pytest.mark.xdist_group("verify")  # they share a run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run over a good clip and one that was cut off."""
    project = Project(tmp_path_factory.mktemp("verified") / "project")
    make_clip(project.folder / "clips/good.mp4", options="-bf 2")
    cut = make_clip(project.folder / "clips/cut.mp4", frames=40, options="-movflags +faststart")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    (project.folder / "brightness.py").write_text(BRIGHTNESS)
    project.stages(videos=["clips"], model=MODEL, output={"preset": "ultrafast"})
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """The finished run, in its own folder; what a test changes is undone."""
    whole = shutil.copytree(finished.folder, tmp_path / "whole", symlinks=True)
    yield finished
    shutil.rmtree(finished.folder)
    whole.rename(finished.folder)


def verify(project: Project) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pvio", "verify"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_finished_results_are_right_and_damage_is_reported(project: Project) -> None:
    code, text = verify(project)
    assert code == 0, text
    assert "results has no errors" in text
    assert "not ok  cut: " in text
    assert "missing: frames" in text
    assert "-39" in text  # up to the last frame
    assert "good" not in text


def test_every_kind_of_error_is_found(project: Project) -> None:
    results = project.folder / "results"
    table = pq.read_table(results / "predictions/good.parquet")
    shifted = table.set_column(1, table.schema.field("pts"), pa.array(range(20)))
    pq.write_table(shifted, results / "predictions/good.parquet")
    data = bytearray((results / "videos/cut.mp4").read_bytes())
    data[len(data) // 2] ^= 1
    (results / "videos/cut.mp4").write_bytes(data)
    (results / "videos/good.mp4").unlink()
    code, text = verify(project)
    assert code == 1
    assert "predictions/good.parquet: the file was changed" in text
    assert "predictions/good.parquet: the timestamp of frame 1 differs from the source's" in text
    assert "videos/cut.mp4: the file was changed" in text
    assert "videos/good.mp4: the file is missing" in text


def test_summary_plan_and_page_are_checked(project: Project) -> None:
    results = project.folder / "results"
    summary = (results / "summary.tsv").read_text()
    (results / "summary.tsv").write_text(summary.replace("damaged", "ok"))
    (results / "report.html").write_text("<p>")
    code, text = verify(project)
    assert code == 1
    for name in ("summary.tsv", "report.html"):
        assert f"{name}: the file was changed" in text
    assert "plan.json: " not in text
    lines = summary.split("\n")
    cells = lines[2].split("\t")
    assert cells[0] == "good"
    cells[4] = "19"  # frames
    (results / "summary.tsv").write_text("\n".join([*lines[:2], "\t".join(cells), ""]))
    assert "summary.tsv: good: frames is 19, but the predictions have 20" in verify(project)[1]
    (results / "summary.tsv").write_text("\n".join(lines[:2]) + "\n")
    assert "summary.tsv: the videos differ from those of plan.json" in verify(project)[1]
    (results / "summary.tsv").write_text("name\tpath\nx\n")
    assert "summary.tsv: the file cannot be read" in verify(project)[1]
    (results / "summary.tsv").unlink()
    assert "summary.tsv: the file is missing" in verify(project)[1]


def test_a_source_that_is_another_one_by_now_is_reported(project: Project) -> None:
    make_clip(project.folder / "clips/good.mp4", frames=20, size="80x48")
    code, text = verify(project)
    assert code == 1
    assert "is missing or was changed" in text


SHRINKING = """
class Shrinking:
    calls = 0
    def __call__(self, frames):
        self.calls += 1
        return {"frames": frames[:, :, : 40 - 2 * self.calls]}
"""


def test_a_video_that_could_not_be_concatenated_is_reported(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    (project.folder / "shrinking.py").write_text(SHRINKING)
    make_clip(project.folder / "clips/long.mp4", frames=40, options="-g 10")
    model = {"entry": "shrinking.py:Shrinking", "batch_size": 20}
    output = {"video": "frames"}
    settings = {"videos": ["clips"], "model": model, "segment_frames": 20, "output": output}
    assert project.tried_stages(**settings, shards=1).returncode != 0  # on_failed: fail
    assert project.summary()["long"]["status"] == "failed"
    assert not (project.folder / "results/videos/long.mp4").exists()
    code, text = verify(project)
    assert code == 1
    assert "videos/long.mp4: concatenation failed: " in text
    assert "frames 20 to 39 were encoded as" in text
