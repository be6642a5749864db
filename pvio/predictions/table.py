"""Predictions as Parquet: one row a frame, the model's outputs as columns.

Columns: `frame` int64, `pts` int64, `time` float64 seconds, `status` string, then one column per
output; an output of shape (B,) is plain, one of shape (B, ...) a fixed-size list with its shape in
the field's metadata. Rows whose picture is `corrupt` or `missing` are null in the model's columns.
The file's metadata hold a JSON object under the key `pvio`.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pvio.errors import ModelError
from pvio.media.index.build import FrameIndex
from pvio.text import json_text

METADATA_KEY = b"pvio"
SHAPE_KEY = b"shape"
# frame, pts, time and status; the outputs of the model come after them.
N_BASE_COLUMNS = 4


class Predictions(dict[str, np.ndarray]):
    """Arrays by column name; `metadata` holds what the file says of itself."""

    metadata: dict[str, Any]


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read a predictions file.

    Args:
        path: a `.parquet` file from `results/predictions`.

    Returns:
        A dict of arrays with one row a frame: `frame`, `pts` (int64), `time` (float64 seconds),
        `status` (str: "ok", "suspect", "corrupt" or "missing") and the model's outputs, in their
        shapes. Where a row has no output, floats are NaN; other types come as masked arrays.
        Its attribute `metadata` has the source, time base, model and versions.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    with open(path, "rb") as file:  # pyarrow takes no path that is no UTF-8
        table = pq.read_table(file, partitioning=None)
    result = Predictions({name: column_array(table, name) for name in table.column_names})
    result.metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return result


def column_array(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array of shape (rows, *shape of the output), see `read_predictions`."""
    field = table.schema.field(name)
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], field.type)
    if pa.types.is_string(field.type):
        return column.to_numpy(zero_copy_only=False).astype(str)
    valid = np.asarray(column.is_valid())
    shape: tuple[int, ...] = ()
    if pa.types.is_fixed_size_list(field.type):
        shape = tuple(json.loads(field.metadata[SHAPE_KEY]))
        flat = column.filter(column.is_valid()).flatten()
    else:
        flat = column.drop_null()
    values = np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, *shape)
    if valid.all():
        return values
    whole = np.zeros((len(valid), *shape), values.dtype)
    whole[valid] = values
    if np.issubdtype(values.dtype, np.floating):
        whole[~valid] = np.nan
        return whole
    return np.ma.masked_array(
        whole, mask=np.broadcast_to(~valid.reshape(-1, *[1] * len(shape)), whole.shape)
    )


class SegmentTable:
    """Collects the outputs of a segment, batch by batch, into a table.

    Args:
        index: of the video.
        start, stop: ranks of the segment's frames, `[start, stop)`.
    """

    def __init__(self, index: FrameIndex, start: int, stop: int):
        self._index = index
        self._start, self._stop = start, stop
        self._status = ["missing"] * (stop - start)
        self._columns: dict[str, np.ndarray] = {}
        self._filled = np.zeros(stop - start, bool)

    def set_status(self, rank: int, status: str) -> None:
        self._status[rank - self._start] = status

    def add(self, ranks: list[int], outputs: dict[str, np.ndarray]) -> None:
        """Add the outputs of some frames.

        Raises:
            ModelError: when names, shapes or types differ from those of earlier batches, or an
                output has no values.
        """
        for name, values in outputs.items():
            if 0 in values.shape[1:]:  # Arrow has no lists of no values
                raise ModelError(
                    f"the model's output '{name}' has the shape {values.shape[1:]} for frame "
                    f"{ranks[0]}: no values"
                )
        rows = np.asarray(ranks, np.int64) - self._start
        if not self._columns:
            n = self._stop - self._start
            self._columns = {
                name: np.zeros((n, *values.shape[1:]), values.dtype)
                for name, values in outputs.items()
            }
        if set(outputs) != set(self._columns):
            raise ModelError(
                f"the model returned {sorted(outputs)} for frame {ranks[0]} and "
                f"{sorted(self._columns)} before; every call must return the same names"
            )
        for name, values in outputs.items():
            column = self._columns[name]
            if values.shape[1:] != column.shape[1:] or values.dtype != column.dtype:
                raise ModelError(
                    f"the model's output '{name}' is {values.dtype} of shape {values.shape[1:]} "
                    f"for frame {ranks[0]} and was {column.dtype} of shape {column.shape[1:]}"
                )
            column[rows] = values
        self._filled[rows] = True

    def not_finite(self) -> dict[str, int]:
        """Rows with a picture whose output is NaN or infinite, by output."""
        found = {}
        for name, values in self._columns.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                rows = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
                found[name] = int((rows & self._filled).sum())
        return {name: n for name, n in found.items() if n}

    def counts(self) -> dict[str, int]:
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
            pa.array(np.arange(self._start, self._stop)),
            pa.array(pts),
            pa.array(self._index.times[self._start : self._stop]),
            pa.array(self._status, pa.string()),
        ]
        missing = ~self._filled
        for name, values in self._columns.items():
            field, array = _arrow_column(name, values, missing)
            fields.append(field)
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def serialize(table: pa.Table) -> memoryview:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return memoryview(sink.getvalue())


def deserialize(payload: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file."""
    return pq.read_table(pa.BufferReader(payload))


def merge(tables: list[pa.Table], metadata: dict[str, Any]) -> pa.Table:
    """Segments in the order of their frames as one table.

    Columns are null for a segment without any output, whose frames all lack a picture.

    Raises:
        ModelError: when an output has another shape or type in one segment than in another, or is
            absent in one; names both.
    """
    _check_alike(tables)
    whole = pa.concat_tables(tables, promote_options="default")
    text = json_text(metadata, sort_keys=True)
    return whole.combine_chunks().replace_schema_metadata({METADATA_KEY: text.encode()})


def _check_alike(tables: list[pa.Table]) -> None:
    """Check that all segments with outputs have the same ones; see `merge`."""
    first: pa.Table | None = None
    for table in tables:
        if table.num_columns == N_BASE_COLUMNS:
            continue
        if first is None:
            first = table
        here, there = _described_outputs(table), _described_outputs(first)
        differing = [
            f"'{name}' is {there.get(name, 'absent')} for {_frames_of(first)} and "
            f"{here.get(name, 'absent')} for {_frames_of(table)}"
            for name in dict.fromkeys((*there, *here))
            if here.get(name) != there.get(name)
        ]
        if differing:
            raise ModelError(
                f"the model's output {', '.join(differing)}; it must be the same for all frames of "
                "a video"
            )


def _described_outputs(table: pa.Table) -> dict[str, str]:
    """Type and shape of one row of each output, as words."""
    found = {}
    for field in list(table.schema)[N_BASE_COLUMNS:]:
        is_list = pa.types.is_fixed_size_list(field.type)
        shape = tuple(json.loads(field.metadata[SHAPE_KEY])) if is_list else ()
        found[field.name] = f"{field.type.value_type if is_list else field.type} of shape {shape}"
    return found


def _frames_of(table: pa.Table) -> str:
    frames = table.column("frame")
    return f"frames {frames[0]} to {frames[-1]}"


def _arrow_column(name: str, values: np.ndarray, missing: np.ndarray) -> tuple[pa.Field, pa.Array]:
    mask = missing if missing.any() else None
    shape = values.shape[1:]
    if not shape:
        array = pa.array(values, mask=mask)
        return pa.field(name, array.type), array
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    size = math.prod(shape)
    kind = pa.list_(flat.type, size)
    array = pa.FixedSizeListArray.from_arrays(
        flat, type=kind, mask=None if mask is None else pa.array(mask)
    )
    field = pa.field(name, kind, metadata={SHAPE_KEY: json.dumps(list(shape)).encode()})
    return field, array
