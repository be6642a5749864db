"""The whole workflow, compared with a plain script and with the cost of decoding and the model."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    CORES,
    FFMPEG,
    REPOSITORY,
    Row,
    Setting,
    copies,
    distinct_copy,
    ffmpeg,
    printed_number,
    python,
    seconds,
    side_by_side,
)
from benchmarks.probe import small_files
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec
from pvio.pipeline.planning.manifest import read_receipt

MODEL = """
import torch


class SmallNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 5, stride=4), torch.nn.ReLU(),
            torch.nn.Conv2d(8, 16, 3, stride=2), torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 4),
        )

    def forward(self, frames):
        return self.layers(frames)
"""
# As a user would write it.
PLAIN = """
import csv, sys, time
import torch
from torchcodec.decoders import VideoDecoder
from small_net import SmallNet

began = time.perf_counter()
model = SmallNet().eval()
with open("plain.csv", "w") as file, torch.inference_mode():
    writer = csv.writer(file)
    for path in sys.argv[1:]:
        decoder = VideoDecoder(path)
        for start in range(0, len(decoder), 32):
            frames = decoder.get_frames_in_range(start, min(start + 32, len(decoder)))
            gray = frames.data.float().mean(dim=1, keepdim=True) / 255
            for i, row in enumerate(model(gray).tolist()):
                writer.writerow([path, start + i, *row])
print("RESULT", time.perf_counter() - began)
"""
ON_READY_BATCHES = """
import sys, time
import torch
from small_net import SmallNet

torch.set_num_threads(1)
model = SmallNet().eval()
total = 0.0
with torch.inference_mode():
    for text in sys.argv[1:]:
        height, width, n = map(int, text.split(","))
        batch = torch.rand(32, 1, height, width).to(memory_format=torch.channels_last)
        model(batch)
        began = time.process_time()
        for _ in range(10):
            model(batch)
        total += (time.process_time() - began) / 320 * n
print("RESULT", total)
"""


def snakemake(folder: Path, *options: str, cores: int | None = CORES, **config: Any) -> float:
    """Seconds that a run of the workflow takes."""
    command = python("-m", "snakemake", "-s", REPOSITORY / "Snakefile", *options)
    command += ["--cores", str(cores)] if cores else []
    command += ["--configfile", str(REPOSITORY / "config.yaml")]
    command += ["--config", *(f"{key}={json.dumps(value)}" for key, value in config.items())]
    path = f"{Path(python()[0]).parent}{os.pathsep}{os.environ['PATH']}"
    return seconds(command, folder, PATH=path, PYTHONPATH=str(REPOSITORY))


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "small_net.py").write_text(MODEL)
    return folder


def decode_cpu_seconds(files: list[Path]) -> float:
    """CPU seconds of FFmpeg's command decoding the files to nothing, one after the other."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for file in files:
        command = [FFMPEG, "-v", "error", "-threads", "1", "-i", str(file), "-an", "-f", "null"]
        subprocess.run([*command, "-"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(setting: Setting) -> Iterator[Row]:
    yield from whole(setting)
    yield balance(setting)
    yield from bookkeeping(setting)
    yield memory(setting)


SETTINGS = {
    "model": {"entry": "small_net.py:SmallNet", "channels": "gray"},
    "output": {"video": "none"},
}


def whole(setting: Setting) -> Iterator[Row]:
    n, square, tall = (1, 32, 32) if setting.small else (10, 1100, 990)
    files = [
        *copies(setting, "fly_pair_384.mp4", n, square),
        *copies(setting, "mouse_396x406.mp4", n, tall),
    ]
    sizes = [f"384,384,{n * square}", f"406,396,{n * tall}"]
    folder = setting.folder / "whole"
    (tiny,) = copies(setting, "fly_pair_384.mp4", 1, 32)

    def on_tiny() -> float:
        return snakemake(fresh(folder), videos=[str(tiny)], **SETTINGS)

    def ideal() -> float:
        model = printed_number(python("-c", ON_READY_BATCHES, *sizes), folder)
        return (decode_cpu_seconds(files) + model) / CORES

    def plain() -> float:
        environment = environment_for_torchcodec() or dict(os.environ)
        path = environment.get("LD_LIBRARY_PATH", "")
        return printed_number(python("-c", PLAIN, *files), folder, LD_LIBRARY_PATH=path)

    def ours() -> float:
        return snakemake(fresh(folder), videos=[str(path) for path in files], **SETTINGS)

    start_up = side_by_side(
        setting, "workflow, one video of 32 frames: start-up", "s", "stated", on_tiny
    )
    yield start_up
    row = side_by_side(
        setting, f"workflow, {n * (square + tall)} frames, start-up included", "s",
        "ours − start-up ≤ 1.15 × limit; peer / ours ≥ 1.8",
        ours, limit=ideal, peers={"plain script": plain},
    )  # fmt: skip
    yield row
    assert row.limit is not None
    net = row.ours - start_up.ours
    yield Row("the same, start-up taken off", "s", net, row.limit, net / row.limit,
              aim="≤ 1.15 × limit")  # fmt: skip


def balance(setting: Setting) -> Row:
    """One video ten times as long as the others."""
    short = copies(setting, "fly_pair_384.mp4", 8, 16 if setting.small else 1100)
    long = setting.folder / "long" / "long.mp4"
    long.parent.mkdir(exist_ok=True)
    ffmpeg("-stream_loop", 9, "-i", short[0], "-c", "copy", long)

    def spread() -> float:
        folder = fresh(setting.folder / "balance")
        snakemake(folder, videos=[str(path) for path in (long, *short)], **SETTINGS)
        receipts = [read_receipt(path) for path in folder.glob("work/infer/*.json")]
        # Without the start of the jobs, which is the same for both.
        seconds = [sum(done.seconds["total"] for done in each.segments) for each in receipts]
        return max(seconds) * len(seconds) / sum(seconds)

    what = "one 10 × longer video among 8: longest shard / mean shard"
    return side_by_side(setting, what, "ratio", "≤ 1.05", spread)


def bookkeeping(setting: Setting) -> Iterator[Row]:
    """What Snakemake and the stages cost when there is nothing to compute."""
    n = 40 if setting.small else 100_000
    folder = fresh(setting.folder / "many")
    many = small_files(setting.folder, n)
    dry = partial(snakemake, folder, "--dry-run", videos=[str(many)], **SETTINGS)
    yield side_by_side(setting, f"dry-run, {n} videos", "s", "≤ 10 s", dry)
    n = 20 if setting.small else 10_000
    folder = fresh(setting.folder / "done")
    settings = {"videos": [str(small_files(setting.folder, n))], **SETTINGS}
    first = snakemake(folder, **settings)
    yield Row(f"first run, {n} videos of 25 frames", "s", first)
    again = partial(snakemake, folder, **settings)
    yield side_by_side(setting, f"run with nothing to do, {n} videos", "s", "≤ 15 s", again)

    clips, added = Path(settings["videos"][0]), iter(range(1000))

    def one_more() -> float:
        number = 1_000_000 + next(added)
        distinct_copy(clips / "000000.mp4", clips / f"{number}.mp4", number)
        return snakemake(folder, **settings)

    what = f"one video added to {n} (limit: nothing to do)"
    once = replace(setting, rounds=1)
    yield side_by_side(once, what, "s", "ours − limit < 20 s", one_more, limit=again)
    config = json.dumps(SETTINGS)
    command = ["-m", "pvio", "infer", "--config", config, "--plan", "work/plan.json"]
    command += ["--shard", f"1-of-{CORES}", "--out", "again.json"]
    shard = partial(seconds, python(*command), folder)
    what = f"shard job with nothing to do, half of {n} videos"
    yield side_by_side(setting, what, "s", "≤ 1.5 s", shard)


def memory(setting: Setting) -> Row:
    """Peak memory of an infer job for a short video, and for one that is 60 times as long."""
    folder = fresh(setting.folder / "memory")
    short, long = folder / "short.mp4", folder / "long.mp4"
    seconds_of_short = 4 if setting.small else 60
    made = f"testsrc2=size=320x240:rate=25:duration={seconds_of_short},noise=alls=6:allf=t"
    ffmpeg("-f", "lavfi", "-i", made, "-preset", "veryfast", "-pix_fmt", "yuv420p", short)
    ffmpeg("-stream_loop", 2 if setting.small else 59, "-i", short, "-c", "copy", long)
    peaks = []
    for video in (short, long):
        config = json.dumps({"videos": [str(video)], "cache": str(folder / "cache"), **SETTINGS})
        for stage in (["probe"], ["plan", "--probe", "probe.json", "--shards", "1"],
                      ["infer", "--plan", "plan.json", "--shard", "1-of-1"]):  # fmt: skip
            command = python("-m", "pvio", "-q", *stage, "--config", config)
            command += ["--out", f"{stage[0]}.json"]
            process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
            if status:
                raise RuntimeError(f"{command} failed")
        peaks.append(usage.ru_maxrss / 1024)
    return Row("peak memory of an infer job, 60-minute video (limit: 1-minute video)", "MiB",
               peaks[1], peaks[0], peaks[1] / peaks[0], aim="flat")  # fmt: skip
