"""The contract with models: the properties of a video that they see, and what pvio accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pvio.errors import ModelError

if TYPE_CHECKING:
    import torch

    from pvio.media.draw.canvas import Canvas

# Columns of every predictions table; a model's outputs cannot take these names.
BASE_COLUMNS = ("frame", "pts", "time", "status")
# The output that is written to the video instead of the table.
FRAMES_OUTPUT = "frames"


@dataclass(frozen=True)
class VideoInfo:
    """A video, as the model's `prepare` sees it.

    Attributes:
        path: the video file, or the folder of images.
        n_frames: number of frames.
        height, width: size of the upright source frame in pixels.
        input_height, input_width: size of the frames the model gets, in pixels.
        channels: 3 (RGB) or 1 (luma).
        rate: average frames per second.
        time_base: seconds per unit of `pts`.
        sample: `sample(n)` reads up to n frames spread evenly over the whole video: uint8 tensor
            N×C×H×W of the input size, on the CPU.
    """

    path: str
    n_frames: int
    height: int
    width: int
    input_height: int
    input_width: int
    channels: int
    rate: float
    time_base: Fraction
    sample: Callable[[int], torch.Tensor]


@runtime_checkable
class HasPrepare(Protocol):
    """A model that looks at a video before it sees its frames, e.g. for a background.

    The outcome must depend on the video alone: each process that handles a part of the video
    calls it again.
    """

    def prepare(self, video: VideoInfo) -> None:
        """Look at a video before its frames."""
        ...


@runtime_checkable
class HasDraw(Protocol):
    """A model that draws its predictions onto the re-encoded video.

    With an attribute `past`, a whole number N above 0, it is called as `draw(frame, row, past)`:
    `past` holds the rows of up to N frames before, oldest first. Frames that could not be decoded
    are included.
    """

    def draw(self, frame: Canvas, row: dict[str, Any]) -> None:
        """Draw the predictions of one frame."""
        ...


def number_of_past_rows(model: HasDraw) -> int:
    """The number of earlier rows that a model wants to draw with.

    Raises:
        ModelError: when its `past` is no whole number from 0 on.
    """
    past = getattr(model, "past", 0)
    if type(past) is not int or past < 0:
        raise ModelError(f"the model's 'past' must be a whole number from 0 on, got {past!r}")
    return past
