"""Frames by number: samples of a video, and the nearest usable frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from pvio.media.decode.watchdog import WatchedReader
from pvio.media.index.frame_index import FrameIndex
from pvio.media.pixels.convert import FrameConverter


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_Frame = TypeVar("_Frame", bound=_Numbered, covariant=True)


class _Reader(Protocol[_Frame]):
    index: FrameIndex

    def frames(self, start: int, stop: int) -> Iterator[_Frame]: ...


def read_frames_at(reader: _Reader[_Frame], numbers: Iterable[int]) -> Iterator[_Frame]:
    """Frames of ascending, distinct numbers; decodes sequentially if faster than a seek."""
    pending = list(numbers)
    while pending:
        # One range is decoded for all numbers up to the first one after a later keyframe.
        run = [pending[0]]
        for number in pending[1:]:
            if reader.index.keyframe_at_or_before(number) > run[-1]:
                break
            run.append(number)
        pending = pending[len(run) :]
        wanted = set(run)
        for frame in reader.frames(run[0], run[-1] + 1):
            if frame.number in wanted:
                yield frame


def sample_frame_numbers(index: FrameIndex, n: int) -> list[int]:
    """Up to `n` numbers spread evenly over a video, at keyframes if there are enough."""
    if index.n_frames <= n:
        return list(range(index.n_frames))
    candidates = index.keyframes if len(index.keyframes) >= n else np.arange(index.n_frames)
    chosen = np.linspace(0, len(candidates) - 1, n).round().astype(int)
    return [int(number) for number in candidates[chosen]]


def sample_frames(reader: WatchedReader, converter: FrameConverter, n: int) -> np.ndarray:
    """Up to `n` frames spread over the video: uint8, N×H×W×C; unusable ones are left out.

    Args:
        reader: of the video, with this converter.
        converter: of the frames.
        n: number of frames.
    """
    found = []
    for frame in read_frames_at(reader, sample_frame_numbers(reader.index, n)):
        if frame.is_usable:
            out = np.empty(converter.output_shape, np.uint8)
            frame.write_to(out)
            found.append(out)
    return np.stack(found) if found else np.empty((0, *converter.output_shape), np.uint8)


def last_usable_frame_before(reader: WatchedReader, number: int) -> Any | None:
    """The last usable frame before a frame, searched GOP by GOP.

    Args:
        reader: of the video.
        number: of the frame.

    Returns:
        The frame, converted by the reader; None if there is none.
    """
    while number > 0:
        keyframe = reader.index.keyframe_at_or_before(number - 1)
        last = None
        for frame in reader.frames(keyframe, number):
            if frame.is_usable:
                last = frame.converted()
        if last is not None:
            return last
        number = keyframe
    return None


def first_usable_frame_from(reader: WatchedReader, number: int) -> Any | None:
    """The first usable frame from a frame on, see `last_usable_frame_before`."""
    with contextlib.closing(reader.frames(number, reader.index.n_frames)) as frames:
        for frame in frames:
            if frame.is_usable:
                return frame.converted()
    return None
