"""Predictions as Parquet: one row per frame, the model's outputs as columns.

Columns: `frame` int64, `pts` int64, `time` float64 seconds, `status` string, then one column per
output; an output of shape (B,) is plain, one of shape (B, ...) a fixed-size list with its shape in
the field's metadata. Rows whose frame is `corrupt` or `missing` are null in the model's columns.
The file's metadata contain a JSON object under the key `pvio`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pvio.errors import ModelError
from pvio.media.index.frame_index import FrameIndex
from pvio.predictions.columns import arrow_array, arrow_column, arrow_strings


class SegmentTable:
    """Collects the outputs of a segment, batch by batch, in a table.

    Args:
        index: of the video.
        start, stop: numbers of the segment's frames, `[start, stop)`.
    """

    def __init__(self, index: FrameIndex, start: int, stop: int):
        self._index = index
        self._start, self._stop = start, stop
        self._status = ["missing"] * (stop - start)
        self._columns: dict[str, np.ndarray] = {}
        self._filled = np.zeros(stop - start, bool)

    def set_status(self, number: int, status: str) -> None:
        """Set the status of the frame of this number."""
        self._status[number - self._start] = status

    def append(self, numbers: list[int], outputs: dict[str, np.ndarray]) -> None:
        """Append the outputs of some frames.

        Raises:
            ModelError: when names, shapes or types differ from those of earlier batches, or an
                output has no values.
        """
        for name, values in outputs.items():
            if 0 in values.shape[1:]:  # Arrow has no empty fixed-size lists
                raise ModelError(
                    f"the model's output '{name}' has the shape {values.shape[1:]} for frame "
                    f"{numbers[0]}: no values"
                )
        rows = np.asarray(numbers, np.int64) - self._start
        if not self._columns:
            n = self._stop - self._start
            self._columns = {
                name: np.zeros((n, *values.shape[1:]), values.dtype)
                for name, values in outputs.items()
            }
        if set(outputs) != set(self._columns):
            raise ModelError(
                f"the model returned {sorted(outputs)} for frame {numbers[0]} and "
                f"{sorted(self._columns)} before; every call must return the same names"
            )
        for name, values in outputs.items():
            column = self._columns[name]
            if values.shape[1:] != column.shape[1:] or values.dtype != column.dtype:
                raise ModelError(
                    f"the model's output '{name}' is {values.dtype} of shape {values.shape[1:]} "
                    f"for frame {numbers[0]} and was {column.dtype} of shape {column.shape[1:]}"
                )
            column[rows] = values
        self._filled[rows] = True

    def count_non_finite(self) -> dict[str, int]:
        """Rows of decoded frames whose output is NaN or infinite, by output."""
        found = {}
        for name, values in self._columns.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                rows = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                found[name] = int((rows & self._filled).sum())
        return {name: n for name, n in found.items() if n}

    def status_counts(self) -> dict[str, int]:
        """Number of rows by status."""
        return {status: self._status.count(status) for status in dict.fromkeys(self._status)}

    def table(self) -> pa.Table:
        """The segment's rows."""
        pts = self._index.pts[self._start : self._stop]
        fields = [
            pa.field("frame", pa.int64(), nullable=False),
            pa.field("pts", pa.int64(), nullable=False),
            pa.field("time", pa.float64(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
        ]
        arrays = [
            arrow_array(np.arange(self._start, self._stop)),
            arrow_array(pts),
            arrow_array(self._index.times[self._start : self._stop]),
            arrow_strings(self._status),
        ]
        missing = ~self._filled
        for name, values in self._columns.items():
            field, array = arrow_column(name, values, missing)
            fields.append(field)
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
