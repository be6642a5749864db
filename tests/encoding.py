"""Sources encoded again as encode jobs and assemble do it, with a model that draws nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pvio.cache.atomic import atomic_path
from pvio.config.settings import Settings, parse_settings
from pvio.inference.overlay import OverlayRenderer
from pvio.media.encode.concat import concat_segments
from pvio.media.index.cached import load_index
from pvio.media.index.frame_index import FrameIndex
from pvio.pipeline.planning.segments import cut_segments

MODELS = """
class Quiet:
    def __call__(self, frames):
        return frames
    def draw(self, canvas, row):
        pass

class Spot(Quiet):
    def draw(self, canvas, row):
        canvas.point(48, 32, 6, "red")

class Failing(Quiet):
    def draw(self, canvas, row):
        raise ValueError("no brush")
"""
# The fastest preset of each encoder.
FASTEST = {"h264_nvenc": "p1", "hevc_nvenc": "p1"}

Part = tuple[int, int, bytes]


def settings_of(file: Path, name: str = "Quiet", **output: Any) -> Settings:
    """Settings with a model of `MODELS`, which `file` holds; lossless and fast by default."""
    preset = FASTEST.get(output.get("codec", ""), "ultrafast")
    output = {"crf": 0, "preset": preset, **output}
    return parse_settings({"model": {"entry": f"{file}:{name}"}, "output": output})


def encoded(index: FrameIndex, settings: Settings, length: int = 10) -> list[Part]:
    """All segments of a video, encoded one by one."""
    painter = OverlayRenderer(settings)
    result = []
    for segment in cut_segments(index, length):
        file = io.BytesIO()
        span = (segment.start, segment.stop)
        rows = [{"frame": number, "status": "ok"} for number in range(*span)]
        painter.encode(file, index, *span, rows, lambda n: None)
        result.append((*span, file.getvalue()))
    return result


def reencode(source: Path, settings: Settings, path: Path, length: int = 10) -> Path:
    """Encode a video again in several segments, and join them."""
    index = load_index(source)
    with atomic_path(path) as temporary:
        concat_segments(encoded(index, settings, length), index, temporary)
    return path
