"""The entries of the cache that belong to a segment, under given settings and a given model.

A key is built from everything that a finished segment depends on, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from pvio.cache.digest import hash_key
from pvio.config.load import dump_settings
from pvio.config.settings import Settings
from pvio.layout import Kind, Stage
from pvio.pipeline.planning.manifest import ProbedVideo

# Increased when the same inputs give other results or another layout than in the release before.
PREDICTIONS_SCHEMA = 5
VIDEO_SCHEMA = 3


def made_with(settings: Settings, fingerprint: str) -> dict[str, str]:
    """The settings and the model on which products depend, as stored next to them.

    Args:
        settings: the sections `segment_frames`, `model`, `decoder` and `output` matter.
        fingerprint: `model_fingerprint` of the settings.
    """
    sections = ("segment_frames", "model", "decoder", "output")
    return {"settings": dump_settings(settings, *sections), "model": fingerprint}


class FrameSpan(Protocol):
    """The frames `[start, stop)` of a video, such as a segment."""

    @property
    def start(self) -> int:
        """Number of the first frame."""
        ...

    @property
    def stop(self) -> int:
        """Number of the frame after the last."""
        ...


class CacheEntry(NamedTuple):
    """The kind and the key of a cache entry."""

    kind: Kind
    key: str


class ResultKeys:
    """The cache entries of a segment.

    Args:
        settings: the sections `model`, `decoder` and `output` matter.
        fingerprint: `model_fingerprint` of the settings.
    """

    def __init__(self, settings: Settings, fingerprint: str):
        self.output, self.fingerprint = settings.output, fingerprint
        # The names of these fields are hashed: renaming one changes all keys.
        self._inputs = settings.model.input_settings()
        self._decoder = settings.resolved_decoder
        self._output = settings.output.hashed()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that work on segments, see `OutputSettings.stages`."""
        return self.output.stages

    def predictions(self, video: ProbedVideo, span: FrameSpan) -> CacheEntry:
        """The rows of the frames."""
        key = hash_key(
            schema=PREDICTIONS_SCHEMA,
            content=video.digest,
            frames=[span.start, span.stop],
            model=self.fingerprint,
            inputs=self._inputs,
            decoder=self._decoder,
        )
        return CacheEntry("predictions", key)

    def video(self, video: ProbedVideo, span: FrameSpan) -> CacheEntry:
        """The frames re-encoded: it depends on their rows, and on the options of the output."""
        predictions = self.predictions(video, span).key
        key = hash_key(schema=VIDEO_SCHEMA, predictions=predictions, output=self._output)
        return CacheEntry("video", key)

    def produced_by(
        self, stage: Stage, video: ProbedVideo, span: FrameSpan
    ) -> tuple[CacheEntry, ...]:
        """The entries that a stage computes for a segment; the last one is committed last."""
        entry_of = {"predictions": self.predictions, "video": self.video}
        return tuple(entry_of[kind](video, span) for kind in self.output.kinds_of(stage))

    def needed_by(
        self, stage: Stage, video: ProbedVideo, span: FrameSpan
    ) -> tuple[CacheEntry, ...]:
        """The entries that a stage reads before it computes its own."""
        return (self.predictions(video, span),) if stage == "encode" else ()

    def all_entries(
        self, videos: list[ProbedVideo], segments: Iterable[tuple[int, FrameSpan]]
    ) -> Iterator[CacheEntry]:
        """All entries that a run refers to, those of the frame indexes included.

        Args:
            videos: of the collection.
            segments: of all videos, each with the number of its video.
        """
        for video in videos:
            if video.index_key:
                yield CacheEntry("index", video.index_key)
        for number, span in segments:
            for stage in self.stages:
                yield from self.produced_by(stage, videos[number], span)
