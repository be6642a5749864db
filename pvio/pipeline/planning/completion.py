"""Whether a segment is finished: one rule for the plan, the jobs and `pvio status`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pvio.cache.entries import Cache
from pvio.cache.lookup import map_in_threads
from pvio.cache.released import ReleasedSegments
from pvio.errors import CacheError, LostEntry
from pvio.layout import Kind, Stage
from pvio.pipeline.guard import concerns_all, reason_for_video
from pvio.pipeline.planning.keys import CacheEntry, FrameSpan, ResultKeys
from pvio.pipeline.planning.manifest import ProbedVideo

logger = logging.getLogger(__name__)

Metadata = dict[str, Any]

# Entries that cannot be used and are logged one by one; there may be a million of them.
_MOST_LOGGED = 20
# Consecutive segments that one thread looks up.
_AT_ONCE = 64


@dataclass(frozen=True)
class SegmentState:
    """The finished stages of a segment.

    Attributes:
        finished_at: when each stage was finished, in seconds since 1970; None where it is not.
        reason: why this could not be determined; usually "".
    """

    finished_at: dict[Stage, float | None] = field(default_factory=dict)
    reason: str = ""

    def is_finished(self, stage: Stage) -> bool:
        """Whether a stage has finished the segment."""
        return self.finished_at.get(stage) is not None


class Completion:
    """Finds finished segments.

    A stage has finished a segment when all its entries are in the cache and undamaged, when no
    frames were skipped in it, or with no shorter `decoder_timeout`, and when what it drew are the
    rows that are in the cache now.

    Args:
        keys: the entries of segments.
        cache: the cache.
        decoder_timeout: seconds, of the settings.
    """

    def __init__(self, keys: ResultKeys, cache: Cache, decoder_timeout: float):
        self.keys, self.cache, self.decoder_timeout = keys, cache, decoder_timeout
        self._released = ReleasedSegments(cache)
        self._n_logged = 0

    def finished(self, stage: Stage, video: ProbedVideo, span: FrameSpan) -> list[Metadata] | None:
        """The metadata of the entries of a stage; None if it must be computed."""
        found = self.finished_at(stage, video, span)
        return None if found is None else found[0]

    def finished_at(
        self, stage: Stage, video: ProbedVideo, span: FrameSpan
    ) -> tuple[list[Metadata], float] | None:
        """The same with the time at which the last entry was written, in seconds since 1970."""
        return self._look(self.keys.produced_by(stage, video, span), {})

    def states(self, segments: Sequence[tuple[ProbedVideo, FrameSpan]]) -> list[SegmentState]:
        """The finished stages of each segment, looked up in threads.

        A stage counts only if the stages before it are finished, too. An error for a video affects
        only its segments, see `reason_for_video`.
        """
        kinds: tuple[Kind, ...] = ("predictions", "video", "released")
        if not any(map(self.cache.has_any, kinds)):
            nothing = SegmentState(dict.fromkeys(self.keys.stages))
            return [nothing] * len(segments)
        parts = [segments[i : i + _AT_ONCE] for i in range(0, len(segments), _AT_ONCE)]
        return [
            state for found in map_in_threads(self._states, parts, at_once=1) for state in found
        ]

    def _states(self, segments: Sequence[tuple[ProbedVideo, FrameSpan]]) -> list[SegmentState]:
        digests: dict[str, str] = {}  # of predictions, to compare overlays with
        states = []
        for video, span in segments:
            try:
                states.append(SegmentState(self._finished_at(video, span, digests)))
            except Exception as error:
                reason = reason_for_video(error, video.path, "looking up", self.cache.root)
                states.append(SegmentState(dict.fromkeys(self.keys.stages), reason))
        return states

    def _finished_at(
        self, video: ProbedVideo, span: FrameSpan, digests: dict[str, str]
    ) -> dict[Stage, float | None]:
        times: dict[Stage, float | None] = dict.fromkeys(self.keys.stages)
        for stage in self.keys.stages:
            found = self._look(self.keys.produced_by(stage, video, span), digests)
            if found is None:
                break
            times[stage] = found[1]
        return times

    def _look(
        self, entries: tuple[CacheEntry, ...], digests: dict[str, str]
    ) -> tuple[list[Metadata], float] | None:
        """Metadata of entries, and time of the last one, if all exist and are up to date.

        Args:
            entries: of a segment.
            digests: of predictions that were looked at before, by key; more are added.
        """
        try:
            found = [self._metadata(entry, digests) for entry in entries]
            if any(each is None for each in found):
                return None
            metadata = [each[0] for each in found if each is not None]
            times = [each[1] for each in found if each is not None]
            if self._counts(metadata[-1]) and self._is_current(metadata[-1], digests):
                return metadata, times[-1]
        except CacheError as error:
            self._warn("%s; it is computed again", error)
        except Exception as error:  # written by another version
            if concerns_all(error, self.cache.root):
                raise
            self._warn("an entry cannot be understood (%r); it is computed again", error)
        return None

    def _metadata(
        self, entry: CacheEntry, digests: dict[str, str]
    ) -> tuple[Metadata, float] | None:
        """Metadata of an entry; None if there is no entry."""
        found = self.cache.find(*entry)
        if found is None and entry.kind == "video":
            found = self._released.find(entry.key)
        if found is not None and entry.kind == "predictions":
            digests[entry.key] = found[0]["digest"]
        return found

    def _counts(self, last: Metadata) -> bool:
        """Whether a segment was computed without skipped frames that a retry could decode."""
        skipped = last["skipped_reason"] if "skipped_reason" in last else last["given_up"]
        if skipped:
            timeout = last["timeout"] if "timeout" in last else last["patience"]
            if timeout < self.decoder_timeout:
                return False
        return "total" in last["seconds"]

    def _is_current(self, last: Metadata, digests: dict[str, str]) -> bool:
        """Whether the drawn rows are those in the cache."""
        for key, digest in last.get("rows", {}).items():
            if key not in digests:
                self._metadata(CacheEntry("predictions", key), digests)
            if digests.get(key) != digest:
                return False
        return True

    def _warn(self, text: str, error: Exception) -> None:
        self._n_logged += 1
        if self._n_logged <= _MOST_LOGGED:
            logger.warning(text, error)
        if self._n_logged == _MOST_LOGGED:
            logger.warning("further entries that cannot be used are not listed")


def read_entry(cache: Cache, entry: CacheEntry) -> tuple[bytes, Metadata]:
    """Payload and metadata of an entry that an earlier stage committed.

    Raises:
        LostEntry: when it is lost or damaged; a damaged one is removed.
    """
    with _lost_if_damaged(cache, entry):
        return cache.read(*entry)


@contextlib.contextmanager
def open_entry(cache: Cache, entry: CacheEntry) -> Iterator[BinaryIO]:
    """A file with the payload of an entry that an earlier stage committed.

    Raises:
        LostEntry: when it is lost or damaged; a damaged one is removed.
    """
    with _lost_if_damaged(cache, entry), cache.open_for_read(*entry) as file:
        yield file


@contextlib.contextmanager
def _lost_if_damaged(cache: Cache, entry: CacheEntry) -> Iterator[None]:
    cache.wait_for(*entry)
    try:
        yield
    except CacheError as error:
        cache.remove(*entry)
        raise LostEntry(str(error), entry.kind) from error
