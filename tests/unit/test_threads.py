"""A job computes with the threads that it was given, also one that is typed by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from clips import REPOSITORY
from stages import CallsHere

import pvio.media.index.cached
from pvio.collection.sources import Source
from pvio.config.settings import parse_settings
from pvio.pipeline.stages.probe import probe

SAMPLE = REPOSITORY / "samples/dark_on_bright.mp4"

# Notes, where a job loads it, what decides how many threads compute.
MODEL = """
import json, os
from pathlib import Path

import pyarrow
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        numbers = {
            "operators": torch.get_num_threads(),
            "side by side": torch.get_num_interop_threads(),
            "pyarrow": pyarrow.cpu_count(),
            "linear algebra": int(os.environ["OPENBLAS_NUM_THREADS"]),
        }
        Path(__file__).with_name("numbers.json").write_text(json.dumps(numbers))

    def forward(self, frames):
        return frames.float().mean(dim=(1, 2, 3))
"""


class Jobs:
    """Jobs typed by hand, without the variables that Snakemake sets."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "any_model.py").write_text(MODEL)
        model = {"entry": "any_model.py:Model", "device": "cpu"}
        settings = {"videos": [str(SAMPLE)], "cache": "cache", "model": model}
        (folder / "config.yaml").write_text(json.dumps(settings))
        self.environment = {k: v for k, v in os.environ.items() if "NUM_THREADS" not in k}
        self.run("probe", "--out", "probe.json")
        self.run("plan", "--probe", "probe.json", "--shards", "1", "--out", "plan.json")

    def run(self, stage: str, *options: str) -> None:
        command = [sys.executable, "-m", "pvio", stage, *options]
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True)

    def numbers(self, stage: str, *options: str) -> dict[str, int]:
        """What the model notes when this job loads it."""
        shard = ("--plan", "plan.json", "--shard", "1-of-1", "--out", "receipt.json")
        self.run(stage, *shard, *options)
        return json.loads((self.folder / "numbers.json").read_text())


@pytest.mark.parametrize("threads", [1, 3])
def test_an_infer_job_keeps_to_its_threads(threads: int, tmp_path: Path):
    assert Jobs(tmp_path).numbers("infer", "--threads", str(threads)) == {
        "operators": threads,
        "side by side": 1,
        "pyarrow": threads,
        "linear algebra": threads,
    }


def test_an_encode_job_has_one_thread(tmp_path: Path):
    jobs = Jobs(tmp_path)
    jobs.numbers("infer", "--threads", "3")
    assert set(jobs.numbers("encode").values()) == {1}


def test_files_are_compared_by_no_more_threads_than_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in range(5):
        shutil.copy(SAMPLE, tmp_path / f"{number}.mp4")
    settings = parse_settings({"videos": [str(tmp_path)], "cache": str(tmp_path / "cache")})
    before = probe(settings)
    for path in tmp_path.glob("*.mp4"):  # a link changes the status of a file
        os.link(path, path.with_suffix(".link"))
    digest, compared = pvio.media.index.content.content_digest, []

    def content_digest(source: Source) -> str:
        compared.append(threading.get_ident())
        time.sleep(0.02)
        return digest(source)

    monkeypatch.setattr(pvio.media.index.cached, "content_digest", content_digest)
    monkeypatch.setattr("pvio.pipeline.stages.probe.WorkerPool", CallsHere)
    assert probe(settings, threads=1) == before
    assert len(compared) == 5
    assert len(set(compared)) == 1
