"""How things are measured: side by side, several times, compared by ratios."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

CORES = 2
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = REPOSITORY / "samples"
REAL_CLIPS = REPOSITORY.parent / "shared" / "videos"


@dataclass
class Setting:
    """What every row gets.

    Attributes:
        folder: for files, emptied at the end.
        rounds: how often everything is measured; medians of the ratios of each round count.
        small: whether a few frames do, so that it can be seen that the benchmark runs.
        peers: folder with the peers' packages by name; empty when there are none.
    """

    folder: Path
    rounds: int
    small: bool
    peers: dict[str, Path]


@dataclass
class Row:
    """A line of the table.

    Attributes:
        what: is measured.
        unit: of the three values.
        peer, limit, ours: medians; None where there is none.
        to_peer, to_limit: medians of the rounds' ratios.
        aim: what is to be reached, as words.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    limit: float | None = None
    to_peer: float | None = None
    to_limit: float | None = None
    aim: str = ""

    def __str__(self) -> str:
        def text(value: float | None, form: str = "{:.3g}") -> str:
            return "-" if value is None else form.format(value)

        return (
            f"| {self.what} | {self.unit} | {text(self.peer)} | {text(self.limit)} "
            f"| {text(self.ours)} | {text(self.to_peer)} | {text(self.to_limit)} | {self.aim} |"
        )


HEADER = (
    "| what | unit | peer | limit | ours | ours / peer | ours / limit | to reach |\n"
    "|---|---|---|---|---|---|---|---|"
)


def side_by_side(
    setting: Setting, what: str, unit: str, aim: str, work: Mapping[str, Callable[[], float]]
) -> Row:
    """Measure "ours", and "peer" and "limit" where they are given, in turn, round by round."""
    values: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(setting.rounds):
        for name, measure in work.items():
            values[name].append(measure())
    medians = {name: statistics.median(found) for name, found in values.items()}

    def ratio(name: str) -> float | None:
        if name not in values:
            return None
        return statistics.median(
            a / b for a, b in zip(values["ours"], values[name], strict=True) if b
        )

    return Row(
        what, unit, medians["ours"], medians.get("peer"), medians.get("limit"),
        ratio("peer"), ratio("limit"), aim,
    )  # fmt: skip


def seconds(command: list[str], cwd: Path | None = None, **environment: str) -> float:
    """Wall time of a command, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def printed_number(command: list[str], cwd: Path | None = None, **environment: str) -> float:
    """The last number that a command prints."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    numbers = re.findall(r"^RESULT ([\d.eE+-]+)$", done.stdout, re.MULTILINE)
    if done.returncode or not numbers:
        raise RuntimeError(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return float(numbers[-1])


def python(*arguments: object) -> list[str]:
    return [sys.executable, *map(str, arguments)]


def ffmpeg(*arguments: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, arguments)], check=True)


def ffmpeg_decode_rate(files: list[Path], n_frames: int) -> float:
    """Frames a second of FFmpeg decoding to nothing, one thread and process per core."""
    began = time.perf_counter()
    waiting = list(files)
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < CORES:
            command = [FFMPEG, "-v", "error", "-threads", "1", "-i", str(waiting.pop()), "-an"]
            running.append(subprocess.Popen([*command, "-f", "null", "-"]))
        running[0].wait()
        running = [process for process in running if process.poll() is None]
    return n_frames / (time.perf_counter() - began)


def copies(setting: Setting, name: str, n: int, frames: int) -> list[Path]:
    """Links to the first frames of a real clip, or of a made one where there are no real ones."""
    folder = setting.folder / f"{Path(name).stem}-{frames}"
    folder.mkdir(exist_ok=True)
    first = folder / "0.mp4"
    if not first.exists():
        if (REAL_CLIPS / name).exists():
            source: list[object] = ["-i", REAL_CLIPS / name, "-c", "copy"]
        else:
            size = re.search(r"\d+x\d+|\d+", name)
            assert size is not None
            text = size[0] if "x" in size[0] else f"{size[0]}x{size[0]}"
            made = f"testsrc2=size={text}:rate=25,noise=alls=6:allf=t"
            source = ["-f", "lavfi", "-i", made, "-pix_fmt", "yuv420p", "-g", "250"]
        ffmpeg(*source, "-an", "-frames:v", frames, first)
    for number in range(1, n):
        if not (folder / f"{number}.mp4").exists():
            os.link(first, folder / f"{number}.mp4")
    return [folder / f"{number}.mp4" for number in range(n)]
