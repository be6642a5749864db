"""`pvio info`: what is known of a video."""

from __future__ import annotations

import os

import numpy as np

from pvio.collection.search import find_sources
from pvio.collection.sources import Source
from pvio.concurrency.child_process import Worker
from pvio.media.index.isolated import build_index_in_child
from pvio.text import printable

# Seconds to wait for a sign of life of FFmpeg.
_TIMEOUT = 120.0
_RANGES = {0: "untagged", 1: "limited", 2: "full"}


def videos_at(path: str) -> list[str]:
    """The video at a path, or all videos of a folder; a folder of images is one video.

    Raises:
        CollectionError: when the folder has none.
    """
    if not os.path.isdir(path):
        return [path]
    return [source.path for source in find_sources([path], report=lambda _: None)]


def describe_video(path: str) -> str:
    """Facts about a video as lines of text.

    Raises:
        UnreadableVideo: when it cannot be read.
    """
    source = Source(os.path.abspath(path), "", os.path.isdir(path))
    with Worker() as worker:
        index = build_index_in_child(source, worker, _TIMEOUT)
    gaps = np.diff(index.pts)
    steady = len(gaps) == 0 or gaps.min() == gaps.max()
    distances = np.diff([*index.keyframes.tolist(), index.n_frames])
    turned = index.orientation
    fields = {
        "frames": f"{index.n_frames}",
        "size": f"{index.width}×{index.height} (width×height, upright)",
        "rate": f"{float(index.average_rate):.6g} frames/s, {'constant' if steady else 'variable'}",
        "times": f"{index.times[0]:.6f} to {index.times[-1]:.6f} s, time base {index.time_base}",
        "codec": f"{index.codec}, {index.pix_fmt}, in {index.container}",
        "stream": f"{index.stream_index} (FFmpeg's best video stream), "
        f"{index.n_audio_streams} audio stream(s)",
        "keyframes": f"{len(index.keyframes)}, at most {distances.max()} frames apart",
        "color": f"range {_RANGES.get(index.color[0], index.color[0])}, matrix {index.color[1]}, "
        f"primaries {index.color[2]}, transfer {index.color[3]} (ITU-T H.273)",
    }
    if not turned.is_upright:
        fields["turned"] = f"by {90 * turned.quarter_turns} degrees counterclockwise" + (
            ", mirrored" if turned.mirrored else ""
        )
    if index.damage:
        fields["damage"] = index.damage
    if index.warning:
        fields["warning"] = index.warning
    width = max(map(len, fields))
    return f"{printable(path)}\n" + "\n".join(
        f"  {name:<{width}}  {value}" for name, value in fields.items()
    )
