"""Draw the model's outputs on the frames of a segment, and encode them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch

from pvio.config.settings import Settings
from pvio.errors import ModelError
from pvio.media.decode.sampling import last_usable_frame_before
from pvio.media.decode.watchdog import WatchedReader
from pvio.media.decoders.frame import STATUS_BY_SEVERITY, USABLE_STATUSES
from pvio.media.draw.canvas import Canvas, mark
from pvio.media.encode.format import OutputFormat, output_format
from pvio.media.encode.planes import PlanarConverter, empty_planes
from pvio.media.encode.segment import SegmentEncoder
from pvio.media.index.frame_index import FrameIndex
from pvio.models.contract import HasDraw, number_of_past_rows
from pvio.models.loading import load_model


class OverlayRenderer:
    """Draws predictions on the decoded planes and encodes them.

    Args:
        settings: `model` (for its `draw`), `output` and `decoder_timeout` matter.

    Attributes:
        n_past_rows: number of earlier rows that the model draws.

    Raises:
        ConfigError, ModelError: when the model cannot be loaded.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        model = load_model(settings.model, torch.device("cpu"))
        self._draw: Callable[..., None] = model.draw if isinstance(model, HasDraw) else draw_scalars
        self.n_past_rows = number_of_past_rows(model) if isinstance(model, HasDraw) else 0

    def encode(
        self,
        file: BinaryIO,
        index: FrameIndex,
        start: int,
        stop: int,
        rows: list[dict[str, Any]],
        progress: Callable[[int], None],
        past: Sequence[dict[str, Any]] = (),
        isolated: bool = False,
    ) -> str:
        """Encode frames `[start, stop)` with their rows drawn on them.

        An unusable frame shows the last usable one with a mark, or black before the first one.

        Args:
            file: to write to; stays empty if the frame size of the video is unknown.
            index: of the video.
            start: number of the first frame.
            stop: number after the last one.
            rows: of these frames.
            progress: called with the number of frames done since the last call.
            past: the rows before, oldest first, of which the last `self.n_past_rows` are used.
            isolated: whether to decode in a child process, which may crash.

        Returns:
            The reason why frames were skipped; "" if none were.

        Raises:
            ModelError: when the model's `draw` raises.
        """
        if not index.has_size:
            progress(stop - start)
            return ""
        output = output_format(index, self._settings.output)
        converter = PlanarConverter(output, index.orientation)
        timeout = self._settings.decoder_timeout
        last: list[np.ndarray] | None = None
        seen = deque(past, maxlen=self.n_past_rows)
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(WatchedReader(index, "pyav", timeout, converter, isolated))
            encoder = stack.enter_context(SegmentEncoder(file, output, self._settings.output))
            frames = stack.enter_context(contextlib.closing(reader.frames(start, stop)))
            for frame, row in zip(frames, rows, strict=True):
                # Decoding may differ between encode and infer: the more severe status counts.
                status = max(frame.status, row.get("status", "ok"), key=STATUS_BY_SEVERITY.index)
                is_usable = status in USABLE_STATUSES
                if is_usable:
                    last = frame.converted()
                elif last is None:
                    last = self._planes_before(start, reader, output)
                canvas = Canvas(encoder.load_planes(last), **output.canvas_options)
                if is_usable:
                    self._draw_row(canvas, row, seen)
                seen.append(row)
                if status != "ok":
                    mark(canvas, status)
                encoder.encode(int(index.pts[frame.number]))
                progress(1)
        return reader.skipped_reason

    def _planes_before(
        self, start: int, segment: WatchedReader, output: OutputFormat
    ) -> list[np.ndarray]:
        """Planes of the last usable frame before the segment, else black ones."""
        with segment.for_search() as reader:
            planes: list[np.ndarray] | None = last_usable_frame_before(reader, start)
        return planes or empty_planes(output)

    def _draw_row(self, canvas: Any, row: dict[str, Any], past: Iterable[dict[str, Any]]) -> None:
        try:
            if self.n_past_rows:
                self._draw(canvas, row, list(past))
            else:
                self._draw(canvas, row)
        except Exception as error:
            raise ModelError(
                f"the model's draw() failed on frame {row['frame']}: {error!r}"
            ) from error


def draw_scalars(canvas: Any, row: dict[str, Any]) -> None:
    """Write the frame number and the scalar outputs of a model that has no `draw`."""
    lines = [f"frame {row['frame']}  {row['time']:.3f} s"]
    for name, value in row.items():
        if name in ("frame", "pts", "time", "status") or np.ndim(value) or np.ma.is_masked(value):
            continue
        lines.append(f"{name} {value:.4g}" if isinstance(value, np.floating) else f"{name} {value}")
    size = max(10, canvas.height // 30)
    for i, line in enumerate(lines[:12]):
        canvas.text(4, 4 + i * size * 1.3, line, color="white", size=size, background="black")
