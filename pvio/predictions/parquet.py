"""Files of predictions, and segments concatenated into the table of a video."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pvio.errors import ModelError
from pvio.predictions.columns import SHAPE_KEY, column_to_numpy
from pvio.text import json_text

METADATA_KEY = b"pvio"
# frame, pts, time and status; the outputs of the model come after them.
N_BASE_COLUMNS = 4


class Predictions(dict[str, np.ndarray]):
    """Arrays by column name; `metadata` holds the metadata of the file."""

    metadata: dict[str, Any]

    def __repr__(self) -> str:
        """The number of rows, and each column with its type and the shape of a row."""
        columns = ", ".join(
            f"{name}: {values.dtype}{list(values.shape[1:]) if values.ndim > 1 else ''}"
            for name, values in self.items()
        )
        n_rows = len(next(iter(self.values()), ()))
        return f"Predictions({n_rows} rows; {columns})"


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read a predictions file.

    Args:
        path: a `.parquet` file from `results/predictions`.

    Returns:
        A dict of arrays with one row per frame: `frame`, `pts` (int64), `time` (float64 seconds),
        `status` (str: "ok", "suspect", "corrupt" or "missing") and the model's outputs, in their
        shapes. Where a row has no output, floats are NaN; other types come as masked arrays.
        Its attribute `metadata` has the source, time base, model and versions.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    with open(path, "rb") as file:  # pyarrow takes no path that is no UTF-8
        table = _read_table(file)
    result = Predictions({name: column_to_numpy(table, name) for name in table.column_names})
    result.metadata = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return result


def serialize(table: pa.Table) -> memoryview:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return memoryview(sink.getvalue())


def deserialize(payload: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file."""
    return _read_table(pa.BufferReader(payload))


def merge(tables: list[pa.Table], metadata: dict[str, Any]) -> pa.Table:
    """Segments in the order of their frames as one table.

    Columns are null for a segment without any output, of which no frame could be decoded.

    Raises:
        ModelError: when an output has another shape or type in one segment than in another, or is
            absent in one; names both.
    """
    _check_alike(tables)
    whole = pa.concat_tables(tables, promote_options="default")
    text = json_text(metadata, sort_keys=True)
    return whole.combine_chunks().replace_schema_metadata({METADATA_KEY: text.encode()})


def _read_table(file: Any) -> pa.Table:
    """The table of an open file; `pyarrow.parquet.read_table` would import pandas."""
    with pq.ParquetFile(file) as opened:
        return opened.read()


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
    """Type and shape of one row of each output, as text."""
    found = {}
    for field in list(table.schema)[N_BASE_COLUMNS:]:
        is_list = pa.types.is_fixed_size_list(field.type)
        shape = tuple(json.loads(field.metadata[SHAPE_KEY])) if is_list else ()
        found[field.name] = f"{field.type.value_type if is_list else field.type} of shape {shape}"
    return found


def _frames_of(table: pa.Table) -> str:
    frames = table.column("frame")
    return f"frames {frames[0]} to {frames[-1]}"
