"""Stage 4: the model's drawing over the segments of one shard, re-encoded."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np

from pvio.cache.store import Store
from pvio.concurrency.threads import limit_torch
from pvio.config.settings import Settings
from pvio.errors import ModelError
from pvio.media.index.frame_index import FrameIndex
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import start_of_job
from pvio.pipeline.jobs.shard import Entry, Task, read_entry, work_through
from pvio.pipeline.planning.keys import predictions_key, video_key
from pvio.pipeline.planning.manifest import Failures, Part, PlannedSegment, Receipt

log = logging.getLogger(__name__)


def encode(part: Part, settings: Settings, failures: Failures | None = None) -> Receipt:
    """Encode the overlay video of the segments of a shard that are not in the store.

    Args:
        part: of the plan, for the shard.
        settings: the same as the plan and the predictions were made with.
        failures: segments without predictions; the segments of their videos are not encoded.

    Returns:
        The receipt; a segment that failed is in it with the reason.

    Raises:
        FailedSegments, JobError: see `work_through`.
    """
    store = Store(settings.cache)
    fingerprint = model_fingerprint(settings.model)
    entries: list[tuple[Entry, ...]] = [
        (("video", video_key(part.videos[segment.video], segment, settings, fingerprint)),)
        for segment in (part.segments[number] for number in part.numbers)
    ]
    compute = Encoding(part, settings, store, fingerprint)
    failed_videos = {
        part.segments[number].video: receipt.failure
        for (stage, number), receipt in (failures or {}).items()
        if stage == "infer" and number in part.segments
    }
    failed = {
        number: failed_videos[video]
        for number in part.numbers
        if (video := part.segments[number].video) in failed_videos
    }
    return work_through(part, entries, store, settings, compute, failed)


class Encoding:
    """Draws and encodes segments; loads the model for the first one.

    Args:
        part, settings: see `encode`.
        store: where predictions are and videos go.
        fingerprint: of the model.
    """

    def __init__(self, part: Part, settings: Settings, store: Store, fingerprint: str):
        self._part, self._settings, self._store = part, settings, store
        self._fingerprint = fingerprint
        self._painter: Painter | None = None
        self._ending_at = {
            (segment.video, segment.stop): segment for segment in part.segments.values()
        }

    def __call__(self, task: Task) -> None:
        """See `Compute`."""
        if self._painter is None:
            with start_of_job():
                self._painter = Painter(self._settings)
        painter = self._painter
        began, spent = time.perf_counter(), time.process_time()
        facts: dict[str, Any] = {"patience": self._settings.decoder_timeout, "rows": {}}
        with self._store.writing(*task.wanted[0], facts) as file:
            rows = self._rows(task.segment, facts["rows"])
            past = self._past_rows(task.segment, painter.past, facts["rows"])
            facts["given_up"] = painter.encode(
                file, task.index, *task.span, rows, task.progress, past, careful=task.careful
            )
            facts["seconds"] = {
                "total": round(time.perf_counter() - began, 4),
                "cost": round(time.process_time() - spent, 4),
            }
            task.unchanged()

    def _rows(self, segment: PlannedSegment, digests: dict[str, str]) -> list[dict[str, Any]]:
        video = self._part.videos[segment.video]
        key = predictions_key(video, segment, self._settings, self._fingerprint)
        return read_rows(self._store, key, digests)

    def _past_rows(
        self, segment: PlannedSegment, n: int, digests: dict[str, str]
    ) -> list[dict[str, Any]]:
        """The last rows in front of a segment, up to `n`."""
        rows: list[dict[str, Any]] = []
        while len(rows) < n and segment.start > 0:
            segment = self._ending_at[segment.video, segment.start]
            rows = self._rows(segment, digests)[-(n - len(rows)) :] + rows
        return rows


def read_rows(store: Store, key: str, digests: dict[str, str]) -> list[dict[str, Any]]:
    """The predictions of a segment as one dict per frame, NumPy arrays and scalars inside.

    The entry's digest is noted in `digests`.
    """
    from pvio.predictions.columns import column_array
    from pvio.predictions.parquet import deserialize

    payload, facts = read_entry(store, "predictions", key)
    digests[key] = facts["digest"]
    table = deserialize(payload)
    columns = {name: column_array(table, name) for name in table.column_names}
    return [{name: values[i] for name, values in columns.items()} for i in range(table.num_rows)]


class Painter:
    """Draws predictions on the decoded planes and encodes them.

    Args:
        settings: `model` (for its `draw`), `output` and `decoder_timeout` matter.

    Attributes:
        past: how many earlier rows the model wants to see when it draws.

    Raises:
        ConfigError, ModelError: when the model cannot be loaded.
    """

    def __init__(self, settings: Settings):
        import torch

        from pvio.models.contract import HasDraw, number_of_past_rows
        from pvio.models.loading import load_model

        limit_torch(1)
        self._settings = settings
        model = load_model(settings.model, torch.device("cpu"))
        self._draw: Callable[..., None] = model.draw if isinstance(model, HasDraw) else draw_values
        self.past = number_of_past_rows(model) if isinstance(model, HasDraw) else 0

    def encode(
        self,
        file: BinaryIO,
        index: FrameIndex,
        start: int,
        stop: int,
        rows: list[dict[str, Any]],
        progress: Callable[[int], None],
        past: Sequence[dict[str, Any]] = (),
        careful: bool = False,
    ) -> str:
        """Encode frames `[start, stop)` with their rows drawn on them.

        Rows without a picture repeat the last good one of the video with a mark; in front of the
        first one the picture is black. Of a video whose size is not known nothing is written.

        Args:
            file: to write to.
            index: of the video.
            start, stop: ranks.
            rows: of these frames.
            progress: called with the number of frames done since the last call.
            past: the rows before, oldest first, of which the last `self.past` count.
            careful: whether to decode in a sub-process, which may crash.

        Returns:
            Why frames were given up, as words; "" when none were.

        Raises:
            ModelError: when the model's `draw` raises.
        """
        from pvio.media.decode.sampling import last_picture_before
        from pvio.media.decode.watchdog import GuardedReader
        from pvio.media.decoders.frame import SEVERITY, SHOWN
        from pvio.media.draw.canvas import Canvas, mark
        from pvio.media.encode.format import output_format
        from pvio.media.encode.planes import PlanarConverter, empty_planes
        from pvio.media.encode.segment import SegmentEncoder

        if not index.has_size:
            progress(stop - start)
            return ""
        output = output_format(index, self._settings.output)
        converter = PlanarConverter(output, index.orientation)
        how = ("pyav", self._settings.decoder_timeout, converter)
        reader = GuardedReader(index, *how, isolated=careful)
        last: list[np.ndarray] | None = None
        seen = deque(past, maxlen=self.past)
        try:
            with SegmentEncoder(file, output, self._settings.output) as encoder:
                for decoded, row in zip(reader.frames(start, stop), rows, strict=True):
                    # Encode may decode otherwise than infer did: what either found counts.
                    status = max(decoded.status, row.get("status", "ok"), key=SEVERITY.index)
                    good = status in SHOWN
                    if good:
                        last = converter(decoded.picture)
                    elif last is None:
                        last = last_picture_before(index, start, *how) or empty_planes(output)
                    canvas = Canvas(encoder.load_planes(last), **output.canvas_options)
                    if good:
                        self._draw_row(canvas, row, seen)
                    seen.append(row)
                    if status != "ok":
                        mark(canvas, status)
                    encoder.encode(int(index.pts[decoded.rank]))
                    progress(1)
        finally:
            reader.close()
        return reader.given_up

    def _draw_row(self, canvas: Any, row: dict[str, Any], past: Iterable[dict[str, Any]]) -> None:
        try:
            if self.past:
                self._draw(canvas, row, list(past))
            else:
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
