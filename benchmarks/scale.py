"""What planning costs with a million videos, and how large the tables between stages become.

python -m benchmarks.scale [--videos N] [--nodes N] [--cores N] [--segment-frames N]

Probing and computing such a collection is out of reach here: videos are made up, with lengths as of
recordings (log-normal, median 10 minutes), and their indexes are not read from a disk. All else is
the program's own.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pvio.cache.atomic import write_json
from pvio.config.settings import parse_settings
from pvio.pipeline.planning.manifest import ProbedVideo, read_plan, read_shard_plan
from pvio.pipeline.planning.registry import register
from pvio.pipeline.planning.resources import write_shard_plans
from pvio.pipeline.stages import plan as planning

RATE, GOP = 25, 250

Result = TypeVar("Result")


class MadeUpIndex(NamedTuple):
    """As much of a frame index as cutting needs."""

    n_frames: int
    keyframes: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--cores", type=int, default=32, help="of each node")
    parser.add_argument("--segment-frames", type=int, default=20_000)
    arguments = parser.parse_args()
    n_shards = arguments.nodes * arguments.cores
    generator = np.random.default_rng(0)
    minutes = np.exp(generator.normal(np.log(10), 0.8, arguments.videos))
    lengths = np.maximum(1, (minutes * 60 * RATE).astype(int))
    videos = [
        ProbedVideo(
            f"experiment{k // 1000:04d}/camera{k % 1000:03d}",
            f"/shared/lab/recordings/experiment{k // 1000:04d}/camera{k % 1000:03d}.mp4",
            index_key=f"{k:032x}", digest=f"{k:032x}", n_frames=int(n), height=1024, width=1024,
            rate=RATE, duration=n / RATE, codec="h264", pix_fmt="yuv420p",
        )
        for k, n in enumerate(lengths)
    ]  # fmt: skip
    planning.index_of = lambda video, cache, timeout: MadeUpIndex(
        video.n_frames, np.arange(0, video.n_frames, GOP)
    )
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        timed("probe.json", lambda: write_json(at / "probe.json", videos), at / "probe.json")
        make(at, videos, n_shards, arguments.segment_frames)
        timed("plan.json, read", lambda: read_plan(at / "plan.json"))


def make(at: Path, videos: list[ProbedVideo], n_shards: int, segment_frames: int) -> None:
    """What `pvio plan` does, and what a job reads of it."""
    settings = parse_settings({"cache": str(at / "cache"), "segment_frames": segment_frames})
    plan, resources = timed("plan", lambda: planning.make_plan(videos, settings, n_shards))
    seconds = [each.seconds for each in resources["infer"]]
    say("segments", len(plan.segments))
    say("shards", n_shards)
    say("longest shard / mean", max(seconds) * n_shards / sum(seconds))
    say("longest infer job, h", max(seconds) / 3600)
    timed("plan.json", lambda: write_json(at / "plan.json", plan), at / "plan.json")
    timed("registration", lambda: register(at / "plan.json", at / "plan.json", settings, "a model"))
    timed("parts", lambda: write_shard_plans(at / "shards", plan, resources))
    shard = f"1-of-{n_shards}"
    part = at / "shards/infer" / f"{shard}.json"
    timed("part of a job", lambda: read_shard_plan(part, "infer", shard), part)
    say("peak memory of planning, GiB", peak_gib())


def timed(what: str, work: Callable[[], Result], file: Path | None = None) -> Result:
    """Print the seconds of some work, and the size of its file."""
    began = time.perf_counter()
    result = work()
    say(f"{what}, s", time.perf_counter() - began)
    if file is not None:
        say(f"{what}, MB", file.stat().st_size / 1e6)
    return result


def say(what: str, value: float) -> None:
    print(f"{what:32} {value:12,.3g}" if value < 1000 else f"{what:32} {value:12,.0f}", flush=True)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    main()
