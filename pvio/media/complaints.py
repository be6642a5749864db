"""What FFmpeg's demuxers and decoders say about damage, which is in its log and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import av.logging

Message = tuple[int, str, str]

# How decoders begin what they say, below the level of errors, about damage they hide.
_SMOOTHED_OVER = ("concealing ", "Skipping invalid ", "Failed to parse ")


def listen() -> av.logging.Capture:
    """A context that collects what FFmpeg says in this thread, as (level, component, text).

    All that may matter is let through, also when it is said twice. Nothing of it reaches Python's
    log: the status of the frames tells it.
    """
    if av.logging.get_level() != av.logging.INFO:
        av.logging.set_level(av.logging.INFO)
        logging.getLogger("libav").setLevel(logging.CRITICAL)
    av.logging.set_skip_repeated(False)
    return av.logging.Capture()


def tell_of_damage(messages: Iterable[Message]) -> bool:
    """Whether one is an error, or tells of damage that the decoder smoothed over."""
    return any(
        level <= av.logging.ERROR or text.startswith(_SMOOTHED_OVER) for level, _, text in messages
    )
