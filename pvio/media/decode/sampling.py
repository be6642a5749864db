"""The pictures nearest to a place of a video at which there is none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from pvio.media.decode.watchdog import GuardedReader
from pvio.media.decoders.frame import SHOWN
from pvio.media.index.frame_index import FrameIndex

Convert = Callable[[Any], Any]


def last_picture_before(
    index: FrameIndex, rank: int, decoder: str, limit: float, convert: Convert
) -> Any | None:
    """The last picture in front of a frame that is shown, looked for GOP by GOP.

    Args:
        index: of the video.
        rank: of the frame.
        decoder, limit, convert: as `GuardedReader` takes them.

    Returns:
        What `convert` makes of it; None when there is none.
    """
    while rank > 0:
        keyframe = index.keyframe_at_or_before(rank - 1)
        last = None
        with contextlib.closing(GuardedReader(index, decoder, limit, convert)) as reader:
            for decoded in reader.frames(keyframe, rank):
                if decoded.status in SHOWN:
                    last = convert(decoded.picture)
        if last is not None:
            return last
        rank = keyframe
    return None


def first_picture_from(
    index: FrameIndex, rank: int, decoder: str, limit: float, convert: Convert
) -> Any | None:
    """The same for the first picture from a frame on."""
    reader = GuardedReader(index, decoder, limit, convert)
    with (
        contextlib.closing(reader),
        contextlib.closing(reader.frames(rank, index.n_frames)) as frames,
    ):
        for decoded in frames:
            if decoded.status in SHOWN:
                return convert(decoded.picture)
    return None
