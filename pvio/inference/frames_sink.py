"""Frames that the model returns, on their way to an encoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from pvio.inference.outputs import required_frames, to_uint8_frames
from pvio.media.decoders.frame import Status

# Batches of frames that wait to be written, while another one is.
PENDING_WRITES = 1


class FrameSink(Protocol):
    """Takes the frames that the model returned, uint8 H×W×C; called in a thread of its own."""

    def set_fallback(self, frame: np.ndarray) -> None:
        """Set what is shown until the first frame of the model's; called before `write`."""

    def write(self, frame: np.ndarray | None, status: Status) -> None:
        """Write the next frame; None for one that the model did not see."""


class ModelFrames(NamedTuple):
    """Frames that the model returned for a batch.

    Attributes:
        statuses: of all frames of the batch, by number.
        numbers: of those that the model saw.
        frames: one for each of these, B×C×H×W; None when the model returned none.
        fallback: uint8 H×W×C, shown until the first frame of the model's; None if the segment
            starts with one.
    """

    statuses: dict[int, Status]
    numbers: list[int]
    frames: np.ndarray | None
    fallback: np.ndarray | None


def write_frames(batch: ModelFrames, sink: FrameSink) -> None:
    """Write the frames of a batch to a sink.

    Raises:
        ModelError: when they are none, or none that can be written.
    """
    if batch.fallback is not None:
        sink.set_fallback(batch.fallback)
    frames: Iterable[np.ndarray] = ()
    if batch.numbers:
        frames = to_uint8_frames(required_frames(batch.frames))
    by_number = dict(zip(batch.numbers, frames, strict=True))
    for number, status in batch.statuses.items():
        sink.write(by_number.get(number), status)
