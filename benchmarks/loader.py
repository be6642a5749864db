"""Batches of frames for PyTorch from several worker processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import (
    CORES,
    REPOSITORY,
    Row,
    Setting,
    copies,
    ffmpeg_decode_rate,
    printed_number,
    python,
    side_by_side,
)
from pvio.media.ffmpeg_libraries import environment_for_torchcodec

CLIPS = ("fly_arena_1024.mp4", "fly_pair_384.mp4", "made_640x480.mp4", "mouse_396x406.mp4")
AIMS = {"float32 RGB": "≥ 8 × peer (1024²), ≥ 5 ×", "uint8 RGB": "≥ 0.5 × limit",
        "luma": "≥ 0.9 × limit"}  # fmt: skip


def rows(setting: Setting) -> Iterator[Row]:
    for clip in CLIPS:
        frames = 32 if setting.small else 990
        files = copies(setting, clip, 12, frames)
        for kind, options in (
            ("float32 RGB", {}),
            ("uint8 RGB", {"dtype": "uint8"}),
            ("luma", {"dtype": "uint8", "channels": "gray"}),
        ):
            work = {"limit": partial(ffmpeg_decode_rate, files, len(files) * frames)}
            if kind == "float32 RGB" and "0.1.3" in setting.peers:
                # The peer is slow: shorter files do.
                short = copies(setting, clip, 2, 32 if setting.small else 400)
                work["peer"] = partial(load, short, {}, setting.peers["0.1.3"])
            work["ours"] = partial(load, files, options, REPOSITORY)
            what = f"loader, {Path(clip).stem}, {kind}, {CORES} workers"
            yield side_by_side(setting, what, "frames/s", AIMS[kind], work)


def load(files: list[Path], options: dict[str, str], package: Path) -> float:
    script = Path(__file__).with_name("loader_run.py")
    environment = environment_for_torchcodec() or dict(os.environ)
    return printed_number(
        python("-P", script, 32, CORES, json.dumps(options), *files),
        PYTHONPATH=str(package),
        LD_LIBRARY_PATH=environment.get("LD_LIBRARY_PATH", ""),
    )
