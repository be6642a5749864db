"""The model's outputs as columns of an Arrow table."""

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
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], field.type)
    if pa.types.is_string(field.type):
        return np.asarray(column.to_numpy(zero_copy_only=False).astype(str))
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


def arrow_column(name: str, values: np.ndarray, missing: np.ndarray) -> tuple[pa.Field, pa.Array]:
    """The Arrow field and array of an output; rows that are `missing` are null."""
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
