"""What every reader delivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import av
import numpy as np

from pvio.media.index import FrameIndex

Status = Literal["ok", "suspect", "corrupt", "missing"]
# From the least to the most severe.
SEVERITY: tuple[Status, ...] = ("ok", "suspect", "corrupt", "missing")
# Of frames whose own picture is shown to models and viewers.
SHOWN = SEVERITY[:2]


class Decoded(NamedTuple):
    """One frame as it came out of the decoder.

    Attributes:
        rank: frame number, the rank in the frame index.
        status: `ok`; `suspect`: damage was found in this frame or one before it in its GOP;
            `corrupt`: the decoder flagged the picture; `missing`: no picture came.
        picture: the coded picture (`av.VideoFrame`) or an upright RGB array; None when missing.
    """

    rank: int
    status: Status
    picture: av.VideoFrame | np.ndarray | None


class Reader(Protocol):
    """Reads the frames of one video."""

    index: FrameIndex

    def frames(self, start: int, stop: int) -> Iterator[Decoded]:
        """Frames `start` to `stop - 1`, each exactly once, in order."""

    def close(self) -> None: ...
