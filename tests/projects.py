"""Runs of the workflow as a user starts them: Snakemake as a child process in its own folder."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from snakemake_server import snakemake_server

from pvio.pipeline.results.summary import read_summary

REPOSITORY = Path(__file__).resolve().parents[1]

BRIGHTNESS = """
import torch

class Brightness(torch.nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, frames):
        return {"brightness": frames.mean(dim=(1, 2, 3)) * self.factor}
"""

# As `sitecustomize.py` on the path of a Python: PyAV's decoder hangs at one frame of one video.
HANGING_DECODER = """
import time
from pvio.media.decoders.pyav import PyAVReader

frames = PyAVReader.frames

def hanging(self, start, stop):
    for decoded in frames(self, start, stop):
        if decoded.number == {number} and self.index.path.endswith({name!r}):
            time.sleep(1000)
        yield decoded

PyAVReader.frames = hanging
"""


def pvio_path() -> dict[str, str]:
    """Variables with which commands like `pvio` are found, as in an activated environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Bytecode is kept, or else every job compiles pvio anew.
    kept = {key: text for key, text in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PATH": path}


@dataclass
class Project:
    """A working folder in which Snakemake runs."""

    folder: Path

    def snakemake(
        self, *options: str, cores: int | None = 2, **config: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the workflow with top-level settings overridden on the command line.

        Where settings are given and no number of shards, there is one: every job more has to load
        PyTorch for itself.
        """
        arguments = _arguments(options, cores, config)
        return snakemake_server().run(arguments, self.folder, pvio_path(), timeout=400)

    def pvio_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`pvio run`, as a user types it."""
        command = ["run", *arguments]
        return snakemake_server().run(
            command, self.folder, pvio_path(), timeout=400, program="pvio"
        )

    def started(self, *options: str, cores: int | None = 2, **config: Any) -> subprocess.Popen[str]:
        """The workflow, just started, in a process group of its own; see `snakemake`."""
        command = [sys.executable, "-m", "snakemake", *_arguments(options, cores, config)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=pvio_path(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # As from a terminal, also where these tests themselves run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *options: str, cores: int = 2, **config: Any) -> str:
        """Run the workflow to its end; the text it printed."""
        done = self.snakemake(*options, cores=cores, **config)
        text = done.stdout + done.stderr
        assert done.returncode == 0, text + self.logs()
        return text

    def stages(self, **config: Any) -> str:
        """All stages to their end in this process, see `run_stages`; the text they printed."""
        done = self.tried_stages(**config)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def tried_stages(self, **config: Any) -> subprocess.CompletedProcess[str]:
        """All stages in this process, until one of them fails."""
        from stages import run_stages

        return run_stages(self.folder, **config)

    def unlock(self) -> None:
        """Remove what a killed run left, as `snakemake --unlock` does."""
        shutil.rmtree(self.folder / ".snakemake/locks", ignore_errors=True)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("logs/**/*.log")))

    def receipts(self, stage: str) -> list[dict[str, Any]]:
        """What the shard jobs of the present plan wrote."""
        n = len(json.loads((self.folder / "work/plan.json").read_text())[f"{stage}_shards"])
        files = [self.folder / f"work/{stage}/{k}-of-{n}.json" for k in range(1, n + 1)]
        return [json.loads(file.read_text()) for file in files]

    def n_computed(self, stage: str) -> int:
        """Segments that the last run computed, not counting those that were there."""
        return sum(
            segment["computed"]
            for receipt in self.receipts(stage)
            for segment in receipt["segments"]
        )

    def summary(self) -> dict[str, dict[str, str]]:
        """Rows of summary.tsv by name."""
        return {row["name"]: row for row in read_summary(self.folder / "results/summary.tsv")}


def _arguments(options: tuple[str, ...], cores: int | None, config: dict[str, Any]) -> list[str]:
    """Arguments of Snakemake."""
    arguments = ["-s", str(REPOSITORY / "Snakefile")]
    arguments += ["--cores", str(cores)] if cores else []
    arguments += options
    if "--configfile" not in options:
        arguments += ["--configfile", str(REPOSITORY / "config.yaml")]
    if config:
        config = {"shards": 1, **config}
        arguments += ["--config", *(f"{key}={json.dumps(each)}" for key, each in config.items())]
    return arguments


def make_clip(path: Path, *, frames: int = 20, size: str = "64x48", options: str = "") -> Path:
    """A short H.264 test clip, made with the FFmpeg command that imageio-ffmpeg ships."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_clip(path.suffix, frames, size, options))
    return path


@functools.cache
def _clip(suffix: str, frames: int, size: str, options: str) -> bytes:
    source = f"testsrc2=size={size}:rate=25"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
    command += ["-frames:v", str(frames), "-pix_fmt", "yuv420p", *options.split()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"clip{suffix}")
        subprocess.run([*command, str(path)], check=True)
        return path.read_bytes()
