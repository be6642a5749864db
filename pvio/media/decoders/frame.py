"""Decoded frames, and the interface of their readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import av
import numpy as np

from pvio.media.index.frame_index import FrameIndex

Status = Literal["ok", "suspect", "corrupt", "missing"]
# From the least to the most severe.
STATUS_BY_SEVERITY: tuple[Status, ...] = ("ok", "suspect", "corrupt", "missing")
# Statuses of frames whose pixels are given to models and viewers.
USABLE_STATUSES = STATUS_BY_SEVERITY[:2]


class DecodedFrame(NamedTuple):
    """One frame as it came out of the decoder.

    Attributes:
        number: in the frame index.
        status: `ok`; `suspect`: damage was found in this frame or one before it in its GOP;
            `corrupt`: the decoder flagged the frame; `missing`: it could not be decoded.
        pixels: the coded frame (`av.VideoFrame`) or an RGB array rotated for display; None if
            missing.
    """

    number: int
    status: Status
    pixels: av.VideoFrame | np.ndarray | None

    @property
    def is_usable(self) -> bool:
        """Whether models and viewers get the frame."""
        return self.pixels is not None and self.status in USABLE_STATUSES


class FrameReader(Protocol):
    """Reads the frames of one video."""

    index: FrameIndex

    def frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        """Frames `start` to `stop - 1`, each exactly once, in order."""

    def close(self) -> None:
        """Close the source."""
        ...


def suspect_warning(n_frames: int, path: str | os.PathLike[str]) -> str:
    """A warning that `n_frames` frames of a video are `suspect`."""
    frames = f"{n_frames} frame{'s' * (n_frames > 1)} of {os.fspath(path)}"
    are, them = ("are", "them") if n_frames > 1 else ("is", "it")
    return (
        f"{frames} {are} suspect: damage was found in {them} or before {them}; the decoded"
        " pixels are returned and may be wrong"
    )
