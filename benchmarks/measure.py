"""How things are measured: side by side, several times, compared by ratios."""

from __future__ import annotations

import os
import re
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        small: whether a few frames of one clip do, so that it can be seen that the benchmark runs.
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
        unit: of the values.
        ours: median of the rounds.
        limit: the same of what cannot be beaten; None where there is none.
        to_limit: median of the rounds' ratios ours / limit.
        peers: the same two numbers of every peer by name; None for one that fails.
        aim: what is to be reached, as words.
    """

    what: str
    unit: str
    ours: float
    limit: float | None = None
    to_limit: float | None = None
    peers: dict[str, tuple[float, float] | None] = field(default_factory=dict)
    aim: str = ""

    def __str__(self) -> str:
        def of_peers(number: int) -> str:
            texts = (
                f"{'fails' if pair is None else _text(pair[number])} ({name})"
                for name, pair in self.peers.items()
            )
            return ", ".join(texts) or "-"

        return (
            f"| {self.what} | {self.unit} | {of_peers(0)} | {_text(self.limit)} "
            f"| {_text(self.ours)} | {of_peers(1)} | {_text(self.to_limit)} | {self.aim} |"
        )


HEADER = (
    "| what | unit | peer | limit | ours | ours / peer | ours / limit | to reach |\n"
    "|---|---|---|---|---|---|---|---|"
)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def side_by_side(
    setting: Setting,
    what: str,
    unit: str,
    aim: str,
    ours: Callable[[], float],
    *,
    limit: Callable[[], float] | None = None,
    peers: Mapping[str, Callable[[], float]] | None = None,
) -> Row:
    """Measure all of them in turn, round by round."""
    others = {**({"limit": limit} if limit else {}), **(peers or {})}
    values: dict[str, list[float]] = {name: [] for name in others}
    found: list[float] = []
    failed: set[str] = set()
    for _ in range(setting.rounds):
        found.append(ours())
        for name in others.keys() - failed:
            try:
                values[name].append(others[name]())
            except RuntimeError as error:
                if name == "limit":
                    raise
                failed.add(name)
                print(
                    f"{what}: {name} fails: {str(error).strip().splitlines()[-1]}", file=sys.stderr
                )

    def beside(name: str) -> tuple[float, float] | None:
        if name in failed:
            return None
        ratios = [a / b for a, b in zip(found, values[name], strict=True)]
        return statistics.median(values[name]), statistics.median(ratios)

    of_limit = beside("limit") if limit else None
    return Row(
        what,
        unit,
        statistics.median(found),
        *(of_limit or (None, None)),
        peers={name: beside(name) for name in peers or {}},
        aim=aim,
    )


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
    """Frames per second of FFmpeg decoding to nothing, one thread and process per core.

    Each process reads its share of the files one after the other, as if they were one.
    """
    shares = [files[i * len(files) // CORES : (i + 1) * len(files) // CORES] for i in range(CORES)]
    commands = []
    for number, share in enumerate(shares):
        names = files[0].parent / f"share-{number}.txt"
        names.write_text("".join(f"file '{file}'\n" for file in share))
        source = ["-f", "concat", "-safe", "0", "-i", str(names)]
        # Quiet: where files of two kinds follow each other, it logs many warnings about times.
        command = [FFMPEG, "-v", "fatal", "-threads", "1", *source, "-an"]
        # It would scale all frames to the size of the first.
        commands.append([*command, "-noautoscale", "-f", "null", "-"])
    began = time.perf_counter()
    running = [subprocess.Popen(command) for command in commands]
    if any(process.wait() for process in running):
        raise RuntimeError("FFmpeg could not decode the files")
    return n_frames / (time.perf_counter() - began)


def distinct_copy(source: Path, target: Path, number: int) -> None:
    """Copy an MP4 file, with a number in a box that readers pass over."""
    target.write_bytes(source.read_bytes() + struct.pack(">I4sQ", 16, b"free", number))


def copies(setting: Setting, name: str, n: int, frames: int) -> list[Path]:
    """The first frames of a real clip, or of a made one where there are no real ones, in files that
    differ in a few bytes: what has the same content is computed once."""
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
            distinct_copy(first, folder / f"{number}.mp4", number)
    return [folder / f"{number}.mp4" for number in range(n)]
