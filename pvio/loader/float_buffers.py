"""Reused memory for float32 batches."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import Executor

import numpy as np
import torch

from pvio.loader.frame_ranges import to_float

# That a batch is converted in.
_PIECES = 8


class FloatBuffers:
    """float32 memory that is used again once nothing refers to it any more.

    Fresh memory for every batch would cost more than the conversion: the kernel has to hand out
    and clear every page of it.
    """

    _KEPT = 3  # the batch in the user's hands, the one being made, and one more

    def __init__(self) -> None:
        self._arrays: list[tuple[np.ndarray, weakref.ref[np.ndarray]]] = []

    def convert(self, pixels: torch.Tensor, threads: Executor) -> torch.Tensor:
        """float32 in [0, 1] of uint8 or uint16, B×C×H×W."""
        out = self._take(tuple(pixels.shape))
        # In a few pieces: to hand over every frame alone takes as long as a small one needs.
        length = math.ceil(len(out) / _PIECES)
        pieces = [slice(at, at + length) for at in range(0, len(out), length)]
        source = pixels.numpy()
        for _ in threads.map(lambda piece: to_float(source[piece], out[piece]), pieces):
            pass
        return torch.from_numpy(out)

    def _take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array of this shape; it is taken as long as the tensor on it keeps it alive."""
        size = math.prod(shape)
        self._arrays = [
            (memory, user)
            for memory, user in self._arrays
            if user() is not None or memory.size >= size
        ][-self._KEPT :]
        for i, (memory, user) in enumerate(self._arrays):
            if user() is None and memory.size >= size:
                del self._arrays[i]
                break
        else:
            memory = np.empty(size, np.float32)
        view = memory[:size].reshape(shape)
        self._arrays.append((memory, weakref.ref(view)))
        return view
