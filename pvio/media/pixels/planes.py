"""Planes of a decoded frame as arrays."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import av
import numpy as np


def plane_as_array(frame: av.VideoFrame, number: int) -> np.ndarray:
    """A plane of a planar frame as a view: H×W, uint8, or uint16 for more than 8 bits."""
    return planes_as_arrays(frame, (number,))[0]


def planes_as_arrays(frame: av.VideoFrame, numbers: Iterable[int]) -> list[np.ndarray]:
    """Several planes, see `plane_as_array`; PyAV makes all of them whenever it is asked for one."""
    planes, name = frame.planes, frame.format.name
    return [_view(planes[number], _sample_type(name, number)) for number in numbers]


def _view(plane: Any, dtype: np.dtype) -> np.ndarray:
    shape, strides = (plane.height, plane.width), (plane.line_size, dtype.itemsize)
    return np.ndarray(shape, dtype, memoryview(plane), 0, strides)


@functools.cache
def _sample_type(pix_fmt: str, number: int) -> np.dtype:
    components = av.VideoFormat(pix_fmt).components
    depth = components[min(number, len(components) - 1)].bits
    return np.dtype(np.uint8 if depth <= 8 else "<u2")
