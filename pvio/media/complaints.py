"""What FFmpeg's demuxers and decoders say about damage, which is in its log and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator

import av.logging

Message = tuple[int, str, str]

# How decoders begin what they say, below the level of errors, about damage they hide.
_SMOOTHED_OVER = ("concealing ", "Skipping invalid ", "Failed to parse ")


_lock = threading.Lock()
_listeners = 0
_before: tuple[int | None, bool, int] = (None, True, logging.NOTSET)


@contextlib.contextmanager
def listen() -> Iterator[list[Message]]:
    """A context that collects what FFmpeg says in this thread, as (level, component, text).

    All that may matter is let through, also when it is said twice. Nothing of it reaches Python's
    log: the status of the frames tells it. FFmpeg has one setting for a whole process: the first
    of all contexts that are open at a time changes it, the last one puts back what was before.
    """
    _begin()
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        _end()


def _begin() -> None:
    global _listeners, _before
    with _lock:
        if not _listeners:
            logger = logging.getLogger("libav")
            _before = av.logging.get_level(), av.logging.get_skip_repeated(), logger.level
            if _before[0] != av.logging.INFO:
                av.logging.set_level(av.logging.INFO)
            av.logging.set_skip_repeated(False)
            logger.setLevel(logging.CRITICAL)
        _listeners += 1


def _end() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            level, skip_repeated, of_logger = _before
            if level != av.logging.INFO:
                av.logging.set_level(level)
            av.logging.set_skip_repeated(skip_repeated)
            logging.getLogger("libav").setLevel(of_logger)


def tell_of_damage(messages: Iterable[Message]) -> bool:
    """Whether one is an error, or tells of damage that the decoder smoothed over."""
    return any(
        level <= av.logging.ERROR or text.startswith(_SMOOTHED_OVER) for level, _, text in messages
    )
