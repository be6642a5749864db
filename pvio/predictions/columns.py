"""The model's outputs as columns of an Arrow table.

Values go to Arrow and back through buffers. pyarrow's own conversions from NumPy and lists import
pandas where it is installed, which takes most of the start of a small job.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa

SHAPE_KEY = b"shape"


def column_to_numpy(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array of shape (rows, *shape of the output), see `read_predictions`."""
    field = table.schema.field(name)
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, field.type)
    if pa.types.is_string(field.type):
        return np.asarray(column.to_pylist(), dtype=str)
    valid = _numpy_array(column.is_valid())
    shape: tuple[int, ...] = ()
    if pa.types.is_fixed_size_list(field.type):
        shape = tuple(json.loads(field.metadata[SHAPE_KEY]))
        flat = column.filter(column.is_valid()).flatten()
    else:
        flat = column.drop_null()
    values = _numpy_array(flat).reshape(-1, *shape)
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


def arrow_column(name: str, values: np.ndarray, missing: np.ndarray) -> tuple[pa.Field, pa.Array]:
    """The Arrow field and array of an output; rows that are `missing` are null."""
    shape = values.shape[1:]
    if not shape:
        array = arrow_array(values, missing)
        return pa.field(name, array.type), array
    flat = arrow_array(np.ascontiguousarray(values).reshape(-1))
    kind = pa.list_(flat.type, math.prod(shape))
    array = pa.Array.from_buffers(kind, len(values), [_validity(missing)], children=[flat])
    field = pa.field(name, kind, metadata={SHAPE_KEY: json.dumps(list(shape)).encode()})
    return field, array


def arrow_array(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Numbers or booleans of shape (n,) as an Arrow array; those that are `missing` are null."""
    bits = _bits(values) if values.dtype == bool else np.ascontiguousarray(values)
    validity = None if missing is None else _validity(missing)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(bits)])


def arrow_strings(words: list[str]) -> pa.Array:
    """Strings as an Arrow array."""
    encoded = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(words), [None, *buffers])


def _validity(missing: np.ndarray) -> pa.Buffer | None:
    """Arrow's bitmap of the values that are there; None when all are."""
    return pa.py_buffer(_bits(~missing)) if missing.any() else None


def _bits(values: np.ndarray) -> np.ndarray:
    return np.packbits(values, bitorder="little")


def _numpy_array(array: pa.Array) -> np.ndarray:
    """An Arrow array of numbers or booleans without nulls."""
    first, end = array.offset, array.offset + len(array)
    data = array.buffers()[1]
    if pa.types.is_boolean(array.type):
        bits = np.frombuffer(data or b"", np.uint8)
        return np.unpackbits(bits, count=end, bitorder="little")[first:].astype(bool)
    return np.frombuffer(data or b"", array.type.to_pandas_dtype())[first:end]
