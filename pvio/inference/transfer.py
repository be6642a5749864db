"""Transfer of uint8 batches from the decoding thread to the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from pvio.config.model import ModelSettings


class PendingBatch(NamedTuple):
    """A batch that is being transferred.

    Attributes:
        frames: uint8, B×C×H×W.
        arrived: CUDA event after the copy; None if nothing is copied.
    """

    frames: torch.Tensor
    arrived: Any


def transfer_to(device: torch.device, settings: ModelSettings) -> Transfer:
    """The transfer to a device."""
    return (CudaTransfer if device.type == "cuda" else Transfer)(device, settings)


class Transfer:
    """Transfer to a model on the CPU: nothing is copied.

    The decoding thread takes one of the `buffers`, fills it and calls `upload`. The thread of the
    model converts it with `to_model_input`; after `release`, its buffer may be filled again.

    Args:
        device: of the model.
        settings: `dtype` and `normalize` matter.
    """

    def __init__(self, device: torch.device, settings: ModelSettings):
        self._device = device
        self._is_float = settings.dtype == "float32"
        self._input: torch.Tensor | None = None
        self._buffers: list[np.ndarray] = []
        self._scale: tuple[torch.Tensor, torch.Tensor] | None = None
        if settings.normalize is not None:
            mean, std = (
                torch.tensor(settings.normalize[name], device=device).view(-1, 1, 1)
                for name in ("mean", "std")
            )
            self._scale = mean, std

    def buffers(self, n: int, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Memory for `n` batches: uint8, N×H×W×C; later calls return the same memory.

        New memory would cost as much as the conversion, since the kernel clears every page.
        """
        if len(self._buffers) != n or self._buffers[0].shape != shape:
            self._buffers = []  # freed before the same amount is allocated
            self._buffers = [self._memory(shape) for _ in range(n)]
        return self._buffers

    def drop_buffers(self) -> None:
        """Use new memory the next time: a thread may still write to the present one."""
        self._buffers = []

    def _memory(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, np.uint8)

    def upload(self, pixels: np.ndarray) -> PendingBatch:
        """Start the transfer of a batch.

        Args:
            pixels: uint8, B×H×W×C, the filled part of a buffer; must not be changed before
                the batch is `release`d.
        """
        return PendingBatch(torch.from_numpy(pixels).permute(0, 3, 1, 2), None)

    def to_model_input(self, pending: PendingBatch) -> torch.Tensor:
        """The batch as input of the model: B×C×H×W on the device, in channels_last memory.

        float32 in [0, 1], or normalized, in memory that the next call reuses; or the uint8
        frames themselves.
        """
        if not self._is_float:
            return pending.frames
        frames = self._input_like(pending.frames)
        # NumPy converts some thousand samples at a time, so that they are still in the CPU cache.
        source, target = (each.permute(0, 2, 3, 1).numpy() for each in (pending.frames, frames))
        np.divide(source, np.float32(255), out=target, dtype=np.float32)
        return self._normalized(frames)

    def release(self, pending: PendingBatch) -> None:
        """Wait until the batch's buffer may be written to."""

    def synchronize(self) -> None:
        """Wait for all transfers, so that buffers may be freed."""

    def _input_like(self, like: torch.Tensor) -> torch.Tensor:
        if self._input is None or self._input.shape[1:] != like.shape[1:]:
            self._input = None
        if self._input is None or len(self._input) < len(like):
            self._input = torch.empty_like(
                like, dtype=torch.float32, memory_format=torch.channels_last
            )
        return self._input[: len(like)]

    def _normalized(self, frames: torch.Tensor) -> torch.Tensor:
        """The frames themselves, changed in place."""
        if self._scale is not None:
            mean, std = self._scale
            frames.sub_(mean).div_(std)
        return frames


class CudaTransfer(Transfer):
    """Transfer to a model on a CUDA device: copies overlap the model on the batch before.

    Buffers are pinned memory, so that the device can copy asynchronously. The decoding thread
    starts copies on a separate stream; the model's stream waits only for the copy of its batch.

    Args:
        device, settings: see `Transfer`.
        cuda: the interface of `torch.cuda`.
    """

    def __init__(self, device: torch.device, settings: ModelSettings, cuda: Any = torch.cuda):
        super().__init__(device, settings)
        self._cuda = cuda
        self._copies = cuda.Stream(device)
        # CUDA multiplies by the reciprocal of a plain number, which is not the exact quotient.
        self._full = torch.tensor(255.0, device=device)

    def _memory(self, shape: tuple[int, ...]) -> np.ndarray:
        pinned = self._device.type == "cuda"
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pinned).numpy()

    def upload(self, pixels: np.ndarray) -> PendingBatch:
        """See `Transfer.upload`; starts a copy to the device."""
        source = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with self._cuda.stream(self._copies):
            frames = source.to(self._device, non_blocking=True, copy=True)
            arrived = self._cuda.Event()
            arrived.record(self._copies)
        return PendingBatch(frames, arrived)

    def to_model_input(self, pending: PendingBatch) -> torch.Tensor:
        """See `Transfer.to_model_input`; waits for the copy on the device."""
        stream = self._cuda.current_stream(self._device)
        stream.wait_event(pending.arrived)
        # Memory allocated on the copy stream must not be reused before this stream is done.
        pending.frames.record_stream(stream)
        if not self._is_float:
            return pending.frames
        frames = self._input_like(pending.frames)
        frames.copy_(pending.frames)
        return self._normalized(frames.div_(self._full))

    def release(self, pending: PendingBatch) -> None:
        """See `Transfer.release`; waits for the copy."""
        pending.arrived.synchronize()

    def synchronize(self) -> None:
        """See `Transfer.synchronize`."""
        self._copies.synchronize()
