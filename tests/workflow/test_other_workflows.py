"""Rules of other workflows on the results, as docs/other-workflows.md shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from projects import REPOSITORY, make_clip, pvio_path

PAGE = REPOSITORY / "docs/other-workflows.md"
BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A model whose rows are known: frame i of a clip of 64×48 has one animal at (4 i, 24), and one that
# is never found.
WALK = """
import torch

class Walk(torch.nn.Module):
    def forward(self, frames):
        n = torch.arange(len(frames)).float()  # all frames of a clip are in one batch
        x = torch.stack([4.0 * n, torch.full_like(n, float("nan"))], 1)
        return {"x": x, "y": torch.where(x.isnan(), x, torch.full_like(x, 24.0))}
"""


class Lab:
    """A folder with the files of the page, and clips."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
            text = text.replace("/path/to/pvio", str(REPOSITORY))
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "walk.py").write_text(WALK)
        settings = yaml.safe_load((folder / "lab.yaml").read_text())
        settings["pvio"] |= {"videos": ["clips"], "shards": 1, "model": {"entry": "walk.py:Walk"}}
        (folder / "lab.yaml").write_text(yaml.safe_dump(settings))
        for name in ("a", "b"):
            make_clip(folder / f"clips/{name}.mp4", frames=16)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores=2", *options],
            cwd=self.folder,
            env=pvio_path(),
            capture_output=True,
            text=True,
            check=False,
        )

    def rules_run(self, *options: str) -> Counter[str]:
        """The rules of the lab that a run executed, each with its number."""
        done = self.snakemake(*options)
        text = done.stdout + done.stderr
        assert done.returncode == 0, text
        return Counter(re.findall(r"^(?:local)?rule (center|overview):", text, re.MULTILINE))

    def table(self, name: str) -> Path:
        return self.folder / f"results/predictions/{name}.parquet"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_lab_runs_again_only_what_changed(lab: Lab) -> None:
    assert lab.rules_run("center/b.tsv") == {"center": 1}
    assert lab.rules_run() == {"center": 1, "overview": 1}
    # 4 i is in the middle half of 64, so between 16 and 48, for i = 5 … 11: 7 of 15 frames with a
    # next one.
    rows = [line.split("\t") for line in (lab.folder / "overview.tsv").read_text().splitlines()]
    assert rows[1:] == [[str(lab.folder / f"clips/{v}.mp4"), f"{7 / 15:.4f}"] for v in "ab"]

    before = os.stat(lab.table("a"))
    make_clip(lab.folder / "clips/c.mp4", frames=12)
    make_clip(lab.folder / "clips/b.mp4", frames=14)
    assert lab.rules_run() == {"center": 2, "overview": 1}
    assert os.stat(lab.table("a")).st_mtime_ns == before.st_mtime_ns

    # A deleted result comes back.
    content = lab.table("a").read_bytes()
    lab.table("a").unlink()
    lab.rules_run("center/a.tsv")
    assert lab.table("a").read_bytes() == content


@pytest.mark.thorough
def test_rules_that_are_forced_and_videos_that_fail_leave_the_results(lab: Lab) -> None:
    lab.rules_run()
    assert lab.rules_run() == {}
    before = {path: path.read_bytes() for path in (lab.folder / "results").rglob("*.parquet")}
    assert lab.snakemake("--forcerun", "pvio_product", "center").returncode == 0
    assert {path: path.read_bytes() for path in before} == before

    (lab.folder / "clips/c.mp4").write_bytes(b"no video at all")
    done = lab.snakemake("--keep-going", "center/a.tsv", "center/c.tsv")
    assert done.returncode != 0
    assert (lab.folder / "center/a.tsv").exists()
    logs = "".join(path.read_text() for path in (lab.folder / "logs/products").rglob("*.log"))
    assert "results/predictions/c.parquet does not exist: see results/summary.tsv" in logs
