"""The contract for the outputs of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pvio.errors import ModelError
from pvio.models.contract import BASE_COLUMNS

# Types of outputs that are stored unchanged; others become float32.
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def to_uint8_frames(frames: np.ndarray) -> np.ndarray:
    """B×C×H×W of uint8, or float in [0, 1], as uint8 B×H×W×C.

    Raises:
        ModelError: for other shapes or types.
    """
    if frames.ndim != 4 or frames.shape[1] not in (1, 3):
        raise ModelError(
            f"the model's 'frames' must be B×3×H×W or B×1×H×W, got shape {frames.shape}"
        )
    if frames.dtype.kind == "f":
        frames = (np.clip(np.nan_to_num(frames), 0, 1) * 255 + 0.5).astype(np.uint8)
    elif frames.dtype != np.uint8:
        raise ModelError(f"the model's 'frames' must be uint8 or float, got {frames.dtype}")
    return np.ascontiguousarray(frames.transpose(0, 2, 3, 1))


def required_frames(frames: np.ndarray | None) -> np.ndarray:
    """The frames that a model returned.

    Raises:
        ModelError: if it returned none.
    """
    if frames is None:
        raise ModelError(
            "output.video is 'frames', but the model returned no output named 'frames' "
            "(B×C×H×W, uint8 or float in [0, 1])"
        )
    return frames


def checked_outputs(returned: Any, n: int, where: str) -> dict[str, np.ndarray]:
    """The model's outputs as arrays, checked against the contract.

    Args:
        returned: by the model, for a batch.
        n: number of frames in the batch.
        where: these frames, for errors.

    Returns:
        Arrays of shape (n, ...), by the names of the outputs.

    Raises:
        ModelError: when the model returned no outputs, or one that cannot be a column.
    """
    if isinstance(returned, torch.Tensor):
        returned = {"output": returned}
    if not isinstance(returned, dict) or not returned:
        raise ModelError(
            "the model must return a Tensor or a dict of Tensors, it returned "
            f"{'an empty dict' if returned == {} else type(returned).__name__} for {where}"
        )
    return {name: _output(name, value, n, where) for name, value in returned.items()}


def _output(name: Any, value: Any, n: int, where: str) -> np.ndarray:
    """One output as an array of shape (n, ...).

    Raises:
        ModelError: when it cannot be a column of the predictions; names output, shape and frames.
    """
    if not isinstance(name, str) or not name or name in BASE_COLUMNS or not _is_text(name):
        raise ModelError(
            f"the model's output {name!r} cannot be a column: names are strings, not empty, other "
            "than " + ", ".join(BASE_COLUMNS)
        )
    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"the model's output '{name}' must be a Tensor with one row per frame "
            f"({n} for {where}), got {type(value).__name__}"
        )
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise ModelError(
            f"the model's output '{name}' for {where} is no plain Tensor ({_kind_of(value)}): "
            "return a dense one, with values of its own"
        )
    shape = tuple(value.shape)
    if not shape or shape[0] != n:
        raise ModelError(
            f"the model's output '{name}' must be a Tensor with one row per frame "
            f"({n} for {where}), got shape {shape}"
        )
    if 0 in shape:
        raise ModelError(
            f"the model's output '{name}' has the shape {shape} for {where}: no values per frame; "
            "leave it out, or fill absent values with NaN"
        )
    if value.is_complex():
        raise ModelError(f"the model's output '{name}' is complex; return its real and imag")
    if value.is_floating_point() and value.dtype not in _NUMPY_FLOATS:
        value = value.float()  # bfloat16 and the types of 8 bits: NumPy has none
    array: np.ndarray = value.detach().resolve_neg().to("cpu", copy=True).numpy()
    return array


def _kind_of(value: torch.Tensor) -> str:
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return str(value.dtype)
    return "on the meta device" if value.is_meta else str(value.layout)


def _is_text(name: str) -> bool:
    """Whether a string can be written as UTF-8: lone surrogates cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
