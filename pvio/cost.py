"""Predicted seconds of decoding, inference and encoding, the weights of the LPT plan.

Every run keeps what its segments took, as seconds per frame by stage, codec and frame sizes. The
next plan predicts with that. What was never measured is taken from a fixed table, scaled by how
far the table was off elsewhere.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pvio.store import write_json

Stage = Literal["infer", "encode"]
Size = tuple[int, int]

COSTS_FILE = "costs.json"

# Nanoseconds per pixel on one core of a 2020s server, 4:2:0 8 bit, measured by decoding the test
# clips of each codec with one thread.
DECODE_NS_PER_PIXEL = {
    "h264": 5.0,
    "hevc": 6.0,
    "av1": 6.0,
    "vp9": 4.0,
    "vp8": 4.0,
    "mpeg4": 3.0,
    "mjpeg": 6.0,
    "images": 25.0,
}
OTHER_CODEC_NS_PER_PIXEL = 6.0
MODEL_NS_PER_PIXEL = 8.0
# x264 at preset medium; other presets scale all videos alike.
ENCODE_NS_PER_PIXEL = 45.0
SECONDS_PER_FRAME = 1e-4


class Kind(NamedTuple):
    """Frames that cost the same.

    Attributes:
        stage: what is done with them.
        codec: FFmpeg's name.
        height, width: of the upright picture in pixels.
        size: (height, width) the model gets; None for the video's own.
    """

    stage: Stage
    codec: str
    height: int
    width: int
    size: Size | None

    @property
    def name(self) -> str:
        to = f" to {self.size[0]}x{self.size[1]}" if self.size and self.stage == "infer" else ""
        return f"{self.stage} {self.codec} {self.height}x{self.width}{to}"

    @property
    def by_table(self) -> float:
        """Seconds per frame by the fixed table."""
        pixels = self.height * self.width
        work = pixels * DECODE_NS_PER_PIXEL.get(self.codec, OTHER_CODEC_NS_PER_PIXEL)
        if self.stage == "infer":
            work += (self.size[0] * self.size[1] if self.size else pixels) * MODEL_NS_PER_PIXEL
        else:
            work += pixels * ENCODE_NS_PER_PIXEL
        return SECONDS_PER_FRAME + work * 1e-9


class Measured(NamedTuple):
    """Seconds per frame of a kind: as measured, and by the table."""

    seconds: float
    by_table: float


class Costs:
    """Predicts seconds.

    Args:
        measured: what earlier runs found, by `Kind.name`.
    """

    def __init__(self, measured: Mapping[str, Measured] | None = None):
        self._measured = dict(measured or {})

    def seconds(self, kind: Kind, n_frames: int) -> float:
        """Predicted seconds of one core for frames of a kind."""
        known = self._measured.get(kind.name)
        if known is not None:
            return n_frames * known.seconds
        ratios = [
            each.seconds / each.by_table
            for name, each in self._measured.items()
            if name.startswith(kind.stage)
        ]
        return n_frames * kind.by_table * (statistics.median(ratios) if ratios else 1.0)

    def learn(self, found: Iterable[tuple[Kind, int, float]]) -> None:
        """Take over what was measured.

        Args:
            found: kind, number of frames and seconds of segments.
        """
        by_kind: dict[Kind, list[float]] = {}
        for kind, n_frames, seconds in found:
            by_kind.setdefault(kind, []).append(seconds / n_frames)
        for kind, each in by_kind.items():
            self._measured[kind.name] = Measured(statistics.median(each), kind.by_table)

    def save(self, cache: str) -> None:
        """Keep them in the folder of the store for the next plan."""
        write_json(Path(cache) / COSTS_FILE, self._measured)


def load_costs(cache: str) -> Costs:
    """What earlier runs left in the folder of the store; nothing where that is unreadable."""
    try:
        data = json.loads((Path(cache) / COSTS_FILE).read_text(encoding="utf-8"))
        return Costs({name: Measured(*map(float, pair)) for name, pair in data.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Costs()
