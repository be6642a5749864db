"""Reading frames beside FFmpeg's own decode of the same file in the same run: ratios, not times.

python -m benchmarks [--repeat N] [VIDEO ...]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from pvio.media.index import FrameIndex, load_index
from pvio.media.picture import Converter
from pvio.media.read import open_reader

SAMPLES = sorted(str(path) for path in Path(__file__).parent.parent.glob("samples/*.mp4"))


def ffmpeg_decode(index: FrameIndex) -> None:
    """FFmpeg's command, one thread, decoding to nothing: the limit."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-i", index.path]
    command += ["-map", f"0:{index.stream_index}", "-f", "null", "-"]
    subprocess.run(command, check=True)


def read_all(index: FrameIndex, channels: str) -> None:
    """All pictures as uint8 arrays through pvio's reader, one thread."""
    converter = Converter(channels, index.height, index.width, index.orientation)
    out = np.empty(converter.shape, np.uint8)
    reader = open_reader(index)
    for decoded in reader.frames(0, index.n_frames):
        if decoded.picture is not None:
            converter.into(decoded.picture, out)
    reader.close()


def seconds(work: Callable[[], None], repeat: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("videos", nargs="*", default=SAMPLES)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, the median counts")
    arguments = parser.parse_args()
    print(
        f"{'video':<28} {'frames/s: FFmpeg':>17} {'luma':>7} {'ratio':>6} {'RGB':>7} {'ratio':>6}"
    )
    for path in arguments.videos:
        index = load_index(path)
        limit = index.n_frames / seconds(partial(ffmpeg_decode, index), arguments.repeat)
        row = f"{Path(path).name:<28} {limit:>17.0f}"
        for channels in ("gray", "rgb"):
            work = partial(read_all, index, channels)
            rate = index.n_frames / seconds(work, arguments.repeat)
            row += f" {rate:>7.0f} {rate / limit:>6.2f}"
        print(row)


if __name__ == "__main__":
    main()
