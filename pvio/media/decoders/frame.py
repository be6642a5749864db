"""What every reader delivers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import av
import numpy as np

from pvio.media.index.frame_index import FrameIndex

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

    def close(self) -> None:
        """Close the source."""
        ...


def words_of_suspect(n_frames: int, path: str | os.PathLike[str]) -> str:
    """A warning that so many frames of a video that were read are `suspect`."""
    frames = f"{n_frames} frame{'s' * (n_frames > 1)} of {os.fspath(path)}"
    are, them = ("are", "them") if n_frames > 1 else ("is", "it")
    return (
        f"{frames} {are} suspect: damage was found in {them} or in front of {them}; what was"
        " decoded is given as it is, and may be wrong"
    )
