"""One reader in one thread, compared with FFmpeg decoding to nothing, and with torchcodec."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    FFMPEG,
    Row,
    Setting,
    copies,
    printed_number,
    python,
    side_by_side,
)
from pvio.media.decode.reader import open_reader
from pvio.media.ffmpeg.shared_libraries import environment_for_torchcodec
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter

TORCHCODEC = """
import sys, time
import torch
from torchcodec.decoders import VideoDecoder

torch.set_num_threads(1)
decoder = VideoDecoder(sys.argv[1], num_ffmpeg_threads=1, dimension_order="NHWC")
n = len(decoder)
began = time.perf_counter()
for start in range(0, n, 32):
    decoder.get_frames_in_range(start, min(start + 32, n))
in_batches = time.perf_counter() - began
began = time.perf_counter()
for number in range(n):
    decoder.get_frame_at(number)
print("RESULT", n / min(in_batches, time.perf_counter() - began))
"""
CLIPS = ("fly_arena_1024.mp4", "fly_pair_384.mp4", "mouse_396x406.mp4")


def rows(setting: Setting) -> Iterator[Row]:
    for clip in CLIPS[-1:] if setting.small else CLIPS:
        (path,) = copies(setting, clip, 1, 16 if setting.small else 500)
        index = load_index(path)
        for channels in ("gray", "rgb"):
            what = f"reader, {Path(clip).stem}, {channels}, 1 thread"
            ours, limit = partial(read_rate, index, channels), partial(ffmpeg_rate, index)
            peers = {"torchcodec": partial(torchcodec_rate, path)} if channels == "rgb" else {}
            yield side_by_side(setting, what, "frames/s", "", ours, limit=limit, peers=peers)


def ffmpeg_rate(index: FrameIndex) -> float:
    """Frames per second by FFmpeg's own clock, which starts when the file is open."""
    command = [FFMPEG, "-benchmark", "-threads", "1", "-i", index.path, "-an", "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"^bench: .*rtime=([\d.]+)s", said, re.MULTILINE)
    assert found is not None
    return index.n_frames / float(found[1])


def torchcodec_rate(path: Path) -> float:
    """Frames per second in batches of 32 or one by one, whichever is faster."""
    environment = environment_for_torchcodec() or dict(os.environ)
    libraries = environment.get("LD_LIBRARY_PATH", "")
    return printed_number(python("-c", TORCHCODEC, path), LD_LIBRARY_PATH=libraries)


def read_rate(index: FrameIndex, channels: str) -> float:
    """Frames per second, all frames as uint8 arrays."""
    converter = FrameConverter(channels, index.height, index.width, index.orientation)
    out = np.empty(converter.output_shape, np.uint8)
    reader = open_reader(index)
    began = time.perf_counter()
    for decoded in reader.frames(0, index.n_frames):
        if decoded.pixels is not None:
            converter.convert_into(decoded.pixels, out)
    reader.close()
    return index.n_frames / (time.perf_counter() - began)
