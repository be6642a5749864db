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
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec

MIX = ("fly_pair_384.mp4", "made_640x480.mp4")
CLIPS = (("fly_arena_1024.mp4",), *((clip,) for clip in MIX), ("mouse_396x406.mp4",), MIX)
# Of RGB, that they take about as long; of luma twice as many.
N_FILES = dict(zip(CLIPS, (4, 6, 4, 6, 4), strict=True))
KINDS: dict[str, dict[str, str]] = {
    "float32 RGB": {},
    "uint8 RGB": {"dtype": "uint8"},
    "luma": {"dtype": "uint8", "channels": "gray"},
}
AIMS = {"float32 RGB": "≥ 5 × peer", "uint8 RGB": "≥ 0.5 × limit", "luma": "≥ 0.9 × limit"}
# The other peer is measured with the first clip and the mix, to keep the whole short.
FIRST_PEER = "0.1.3"
# The peers are slow: where one is measured, all read the same files for so long at most.
SECONDS_BESIDE_PEERS = 4.0


def rows(setting: Setting) -> Iterator[Row]:
    frames = 16 if setting.small else 990
    for clips in CLIPS[-1:] if setting.small else CLIPS:
        name = " and ".join(Path(clip).stem for clip in clips)
        for kind, options in KINDS.items():
            files = mixed(setting, clips, N_FILES[clips] * (2 if kind == "luma" else 1), frames)
            what = f"loader, {name}, {kind}, {CORES} workers"
            aim = "≥ 8 × peer" if kind == "float32 RGB" and "1024" in name else AIMS[kind]
            if kind == "float32 RGB":
                peers = {
                    version: partial(load, files, options, folder, SECONDS_BESIDE_PEERS)
                    for version, folder in setting.peers.items()
                    if version == FIRST_PEER or clips in (CLIPS[0], MIX)
                }
                ours = partial(load, files, options, REPOSITORY, SECONDS_BESIDE_PEERS)
                yield side_by_side(setting, what, "frames/s", aim, ours, peers=peers)
            else:
                ours = partial(load, files, options, REPOSITORY)
                limit = partial(ffmpeg_decode_rate, files, len(files) * frames)
                yield side_by_side(setting, what, "frames/s", aim, ours, limit=limit)


def mixed(setting: Setting, clips: tuple[str, ...], n: int, frames: int) -> list[Path]:
    """Copies of the clips, `n` in all, in turn."""
    each = [copies(setting, clip, n // len(clips), frames) for clip in clips]
    return [file for group in zip(*each, strict=True) for file in group]


def load(files: list[Path], options: dict[str, str], package: Path, seconds: float = 3600) -> float:
    """Frames per second of the loader of a package, from its start on, for some seconds at most."""
    script = Path(__file__).with_name("loader_run.py")
    environment = environment_for_torchcodec() or dict(os.environ)
    return printed_number(
        python("-P", script, 32, CORES, seconds, json.dumps(options), *files),
        PYTHONPATH=str(package),
        LD_LIBRARY_PATH=environment.get("LD_LIBRARY_PATH", ""),
    )
