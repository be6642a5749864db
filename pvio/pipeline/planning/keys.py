"""Result keys: everything a finished segment depends on, and nothing else."""

from __future__ import annotations

from typing import Protocol

from pvio.cache.digest import hash_key
from pvio.config.settings import Settings
from pvio.pipeline.planning.manifest import ProbedVideo

# Raised when the same inputs give other results or another layout than the release before.
PREDICTIONS_SCHEMA = 5
VIDEO_SCHEMA = 3


class Frames(Protocol):
    """A segment: the frames `[start, stop)`."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...


def predictions_key(video: ProbedVideo, segment: Frames, settings: Settings, model: str) -> str:
    """Key of the predictions of a segment.

    Args:
        video: the video the segment belongs to.
        segment: the frames.
        settings: the sections `model` and `decoder` matter.
        model: `model_fingerprint` of the settings.
    """
    inputs = settings.model.model_dump(mode="json", exclude={"entry", "args", "weights", "device"})
    return hash_key(
        schema=PREDICTIONS_SCHEMA,
        content=video.digest,
        frames=[segment.start, segment.stop],
        model=model,
        inputs=inputs,
        decoder=settings.resolved_decoder,
    )


def video_key(video: ProbedVideo, segment: Frames, settings: Settings, model: str) -> str:
    """Key of the re-encoded video of a segment: that of its predictions, and the output options."""
    return hash_key(
        schema=VIDEO_SCHEMA,
        predictions=predictions_key(video, segment, settings, model),
        output=settings.output.model_dump(mode="json"),
    )
