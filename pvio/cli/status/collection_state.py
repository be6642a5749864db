"""The part of a collection in the cache, and why the rest is not: `pvio status`, `pvio clean`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pvio.cache.entries import Cache
from pvio.cache.lookup import map_in_threads
from pvio.collection.names import read_names
from pvio.collection.search import find_sources
from pvio.config.settings import Settings
from pvio.errors import CacheError
from pvio.media.index.cached import deserialize_index
from pvio.models.entry import model_fingerprint
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.manifest import ProbedVideo
from pvio.pipeline.planning.probed_video import known_video
from pvio.pipeline.planning.segments import Segment, cut_segments


@dataclass(frozen=True)
class State:
    """A collection as the cache knows it.

    Attributes:
        videos: of the collection whose frames are indexed, and those that are not there.
        new: paths of the other ones.
        cut: segments of all readable `videos`.
        model: fingerprint of the settings' model.
    """

    videos: list[ProbedVideo]
    new: list[str]
    cut: list[Segment]
    model: str

    @property
    def segments(self) -> Iterator[tuple[int, Segment]]:
        """Every segment with the number of its video."""
        return ((segment.video, segment) for segment in self.cut)


def current_state(settings: Settings, results: Path | None = None) -> State:
    """Look a collection up in the cache; nothing is indexed.

    Args:
        settings: of the run.
        results: folder of products, in which videos keep their names; that of the settings if None.

    Raises:
        PvioError: when the settings lead to no collection or no model.
    """
    cache = Cache(settings.cache)
    names = read_names(results or settings.results)
    sources = find_sources(settings.videos, names, lambda _: None, settings.exclude)
    model = model_fingerprint(settings.model)
    rows = map_in_threads(partial(known_video, cache=cache, renew=False), sources)
    videos = [row for row in rows if row is not None]
    new = [source.path for source, row in zip(sources, rows, strict=True) if row is None]

    def cut(number: int) -> list[Segment]:
        video = videos[number]
        if video.status != "ok":
            return []
        try:
            index = deserialize_index(*cache.read("index", video.index_key), video.path)
            return cut_segments(index, settings.segment_frames, number)
        except CacheError:  # damaged: the next run builds it again
            return []
        except Exception as error:
            reason_for_video(error, video.path, "cutting", settings.cache)
            return []

    segments = [each for found in map_in_threads(cut, range(len(videos))) for each in found]
    return State(videos, new, segments, model)
