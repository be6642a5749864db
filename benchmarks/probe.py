"""Frame indexes of many small files: for the first time, and again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    CORES,
    Row,
    Setting,
    distinct_copy,
    ffmpeg,
    printed_number,
    python,
    seconds,
    side_by_side,
)
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec

PEER = """
import sys, time
from pvio.video_io import get_video_metadata
get_video_metadata(sys.argv[1], cache_metadata=False, use_cached_metadata=False)
began = time.perf_counter()
for path in sys.argv[1:]:
    get_video_metadata(path, cache_metadata=False, use_cached_metadata=False)
print("RESULT", (time.perf_counter() - began) / len(sys.argv[1:]))
"""


def small_files(folder: Path, n: int) -> Path:
    """A folder of files of 25 frames: distinct ones, or from 10,000 on links to these."""
    target = folder / f"small-{n}"
    if not target.exists():
        target.mkdir()
        first = target / "000000.mp4"
        made = "testsrc2=size=64x48:rate=25:duration=1"
        ffmpeg("-f", "lavfi", "-i", made, "-pix_fmt", "yuv420p", first)
        for number in range(1, n):
            path = target / f"{number:06d}.mp4"
            if number < 10_000:
                distinct_copy(first, path, number)
            else:
                os.link(target / f"{number % 10_000:06d}.mp4", path)
    return target


def probe(folder: Path, cache: Path, cold: bool, out: Path) -> float:
    if cold:
        shutil.rmtree(cache, ignore_errors=True)
    config = json.dumps({"videos": [str(folder)], "cache": str(cache)})
    command = ["-m", "pvio", "-q", "probe", "--config", config, "--out", out, "--threads", CORES]
    return seconds(python(*command))


def rows(setting: Setting) -> Iterator[Row]:
    n = 20 if setting.small else 10_000
    folder, cache = small_files(setting.folder, n), setting.folder / "probe-cache"
    out = setting.folder / "probe.json"
    peers = {}
    if "0.1.3" in setting.peers:
        environment = environment_for_torchcodec() or dict(os.environ)
        files = sorted(folder.iterdir())[:10]
        peers["0.1.3"] = partial(
            printed_number,
            python("-P", "-c", PEER, *files),
            PYTHONPATH=str(setting.peers["0.1.3"]),
            LD_LIBRARY_PATH=environment.get("LD_LIBRARY_PATH", ""),
        )

    def cold() -> float:
        return probe(folder, cache, True, out) / n

    what = f"probe, {n} files, cold"
    yield side_by_side(setting, what, "s/file", "peer / ours ≥ 100", cold, peers=peers)
    warm = partial(probe, folder, cache, False, out)
    yield side_by_side(setting, f"probe, {n} files, warm", "s", "< 3 s", warm)
