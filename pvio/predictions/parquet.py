"""Files of predictions, and segments concatenated into the table of a video."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

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


def write_merged(
    file: BinaryIO, segments: Callable[[], Iterable[pa.Table]], metadata: dict[str, Any]
) -> None:
    """Write the segments of a video as one table; each is a row group.

    Columns are null for a segment without any output, of which no frame could be decoded. At
    most two segments are in memory, so the length of a video does not matter.

    Args:
        file: receives the table.
        segments: gives the tables in the order of their frames; called twice.
        metadata: of the table, as JSON values.

    Raises:
        ModelError: when an output has another shape or type in one segment than in another, or is
            absent in one; names both.
    """
    first = _first_with_outputs(segments())
    text = json_text(metadata, sort_keys=True)
    schema = first.schema.with_metadata({METADATA_KEY: text.encode()})
    names, outputs = _frames_of(first), _described_outputs(first)
    del first
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in segments():
            if table.num_columns > N_BASE_COLUMNS:
                _check_alike(table, outputs, names)
            writer.write_table(_with_schema(table, schema), row_group_size=len(table))


def _read_table(file: Any) -> pa.Table:
    """The table of an open file; `pyarrow.parquet.read_table` would import pandas.

    Without threads of pyarrow: a program that ended right after reading was seen to abort.
    """
    with pq.ParquetFile(file, pre_buffer=False) as opened:
        return opened.read(use_threads=False)


def _first_with_outputs(tables: Iterable[pa.Table]) -> pa.Table:
    """The first table with outputs; the last one if none has any."""
    for table in tables:
        if table.num_columns > N_BASE_COLUMNS:
            break
    return table


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema, null where it lacks one."""
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _check_alike(table: pa.Table, outputs: dict[str, str], others: str) -> None:
    """Check that a segment has the outputs of another; see `write_merged`.

    Args:
        table: of the segment.
        outputs: of the other, see `_described_outputs`.
        others: the frames of the other, for the error.
    """
    here = _described_outputs(table)
    differing = [
        f"'{name}' is {outputs.get(name, 'absent')} for {others} and "
        f"{here.get(name, 'absent')} for {_frames_of(table)}"
        for name in dict.fromkeys((*outputs, *here))
        if here.get(name) != outputs.get(name)
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
