"""Stage 4: the model's drawing over the segments of one shard, re-encoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from pvio.config import Settings
from pvio.errors import ModelError
from pvio.keys import predictions_key, video_key
from pvio.manifest import Plan, PlannedSegment, Receipt
from pvio.media.index import FrameIndex
from pvio.models.entry import model_fingerprint
from pvio.stages.shard import Entry, parse_shard, read_entry, work_through
from pvio.store import Store

log = logging.getLogger(__name__)


def encode(plan: Plan, settings: Settings, shard: str) -> Receipt:
    """Encode the overlay video of the segments of a shard that are not in the store.

    Args:
        plan: the manifest.
        settings: the same as the plan and the predictions were made with.
        shard: "k-of-n".

    Raises:
        FailedSegments: when segments failed, after all others are done.
    """
    store = Store(settings.cache)
    numbers = plan.encode[parse_shard(shard, len(plan.encode))]
    fingerprint = model_fingerprint(settings.model)
    entries: list[tuple[Entry, ...]] = [
        (("video", video_key(plan.videos[segment.video], segment, settings, fingerprint)),)
        for segment in (plan.segments[number] for number in numbers)
    ]
    painter: Painter | None = None

    def compute(
        segment: PlannedSegment,
        index: FrameIndex,
        wanted: tuple[Entry, ...],
        progress: Callable[[int], None],
    ) -> dict[str, Any]:
        nonlocal painter
        if painter is None:
            painter = Painter(settings)
        began, spent = time.perf_counter(), time.process_time()
        video = plan.videos[segment.video]
        source = predictions_key(video, segment, settings, fingerprint)
        facts: dict[str, Any] = {"patience": settings.decoder_timeout}
        with store.writing(*wanted[0], facts) as file:
            rows = read_rows(store, source)
            span = (segment.start, segment.stop)
            facts["given_up"] = painter.encode(file, index, *span, rows, progress)
            facts["seconds"] = {
                "total": round(time.perf_counter() - began, 4),
                "cost": round(time.process_time() - spent, 4),
            }
        return facts

    patience = settings.decoder_timeout
    return work_through("encode", shard, plan, numbers, entries, store, patience, compute)


def read_rows(store: Store, key: str) -> list[dict[str, Any]]:
    """The predictions of a segment as one dict per frame, NumPy arrays and scalars inside."""
    from pvio.predictions import column_array, deserialize

    table = deserialize(read_entry(store, "predictions", key))
    columns = {name: column_array(table, name) for name in table.column_names}
    return [{name: values[i] for name, values in columns.items()} for i in range(table.num_rows)]


class Painter:
    """Draws predictions on the decoded planes and encodes them.

    Args:
        settings: `model` (for its `draw`), `output` and `decoder_timeout` matter.
    """

    def __init__(self, settings: Settings):
        import torch

        from pvio.models.contract import HasDraw
        from pvio.models.loading import load_model

        torch.set_num_threads(1)
        self._settings = settings
        model = load_model(settings.model, torch.device("cpu"))
        self._draw = model.draw if isinstance(model, HasDraw) else draw_values

    def encode(
        self,
        file: BinaryIO,
        index: FrameIndex,
        start: int,
        stop: int,
        rows: list[dict[str, Any]],
        progress: Callable[[int], None],
    ) -> str:
        """Encode frames `[start, stop)` with their rows drawn on them.

        Rows without a picture repeat the last good one, or a black one, with a mark.

        Returns:
            Why frames were given up, as words; "" when none were.

        Raises:
            ModelError: when the model's `draw` raises.
        """
        from pvio.media.draw import Canvas
        from pvio.media.encode import SegmentEncoder
        from pvio.media.guarded import GuardedReader
        from pvio.media.output_format import output_format
        from pvio.media.planes import PlanarConverter, empty_planes

        output = output_format(index, self._settings.output)
        look: dict[str, Any] = {
            "bit_depth": output.bit_depth,
            "full_range": output.full_range,
            "matrix": output.matrix,
        }
        converter = PlanarConverter(output, index.orientation)
        reader = GuardedReader(index, "pyav", self._settings.decoder_timeout, converter)
        last = empty_planes(output)
        try:
            with SegmentEncoder(file, output, self._settings.output) as encoder:
                for decoded, row in zip(reader.frames(start, stop), rows, strict=True):
                    good = decoded.status in ("ok", "suspect")
                    if good:
                        last = converter(decoded.picture)
                    canvas = Canvas(encoder.lay(last), **look)
                    if good:
                        self._draw_row(canvas, row)
                    if decoded.status != "ok":
                        _mark(canvas, decoded.status)
                    encoder.encode(int(index.pts[decoded.rank]))
                    progress(1)
        finally:
            reader.close()
        return reader.given_up

    def _draw_row(self, canvas: Any, row: dict[str, Any]) -> None:
        try:
            self._draw(canvas, row)
        except Exception as error:
            raise ModelError(
                f"the model's draw() failed on frame {row['frame']}: {error!r}"
            ) from error


def draw_values(canvas: Any, row: dict[str, Any]) -> None:
    """Write the frame number and the scalar outputs of a model that has no `draw`."""
    lines = [f"frame {row['frame']}  {row['time']:.3f} s"]
    for name, value in row.items():
        if name in ("frame", "pts", "time", "status") or np.ndim(value) or np.ma.is_masked(value):
            continue
        lines.append(f"{name} {value:.4g}" if isinstance(value, np.floating) else f"{name} {value}")
    size = max(10, canvas.height // 30)
    for i, line in enumerate(lines[:12]):
        canvas.text(4, 4 + i * size * 1.3, line, color="white", size=size, background="black")


def _mark(canvas: Any, status: str) -> None:
    size = max(10, canvas.height // 20)
    canvas.box(0, 0, canvas.width - 1, canvas.height - 1, color="red", width=4)
    canvas.text(8, 8, status, color="white", size=size, background="red")
