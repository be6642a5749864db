"""Indexing in a child process: a file at which FFmpeg crashes or hangs costs only itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pvio.collection.sources import Source
from pvio.concurrency.child_process import ChildCrashed, Worker, WorkerPool
from pvio.concurrency.prefetch import StallTimeout
from pvio.errors import UnreadableVideo
from pvio.media.index.build import build_index
from pvio.media.index.content import hang_reason
from pvio.media.index.frame_index import FrameIndex

logger = logging.getLogger(__name__)


def build_index_in_child(source: Source, worker: Worker, timeout: float) -> FrameIndex:
    """See `build_index`.

    Args:
        source: the video.
        worker: makes the call.
        timeout: seconds without a sign of life.

    Raises:
        UnreadableVideo: also when FFmpeg crashes, hangs or takes all memory.
    """
    index: FrameIndex = call_for_video(worker, source.path, timeout, build_index, source)
    return index


def call_for_video(
    worker: Worker | WorkerPool,
    path: str,
    timeout: float,
    function: Callable[..., Any],
    *arguments: Any,
) -> Any:
    """Call a function in a worker's child process; returns its result.

    Args:
        worker: makes the call.
        path: of the video.
        timeout: seconds without a sign of life.
        function: at the top level of a module.
        arguments: of the function.

    Raises:
        UnreadableVideo: when the call crashes, hangs or takes all memory.
        Exception: what the function raised.
    """
    try:
        return worker.call(function, *arguments, timeout=timeout)
    except StallTimeout:
        reason = hang_reason(timeout)
    except ChildCrashed as error:
        reason = f"FFmpeg crashes at it, or needs too much memory: {error}"
    logger.warning("%s: %s", path, reason)
    raise UnreadableVideo(path, reason)
