"""Publishing in a child process, while the job computes."""

from __future__ import annotations

import logging
import time
from collections import deque
from multiprocessing.connection import Connection

from pvio.concurrency.child_process import ChildCrashed, ChildProcess
from pvio.concurrency.prefetch import StallTimeout
from pvio.concurrency.timeout import keep_reporting, on_progress
from pvio.config.settings import Settings
from pvio.pipeline.jobs.log import log_to_stderr
from pvio.pipeline.planning.manifest import ShardPlan
from pvio.pipeline.publishing.publisher import Publisher

logger = logging.getLogger(__name__)

# Seconds without a sign of life; the child shows one every second while it works.
_TIMEOUT = 120.0
# Videos that were sent to the child; the pipe has room for more.
_MOST_SENT = 64


class PublishingProcess:
    """Publishes videos in a child process; no call but `wait` takes long.

    The job needs no memory for tables, and its model continues while segments are concatenated.

    Args:
        part, settings, fingerprint: see `Publisher`.
        results: folder of the products; None to publish nothing.
    """

    def __init__(self, part: ShardPlan, settings: Settings, fingerprint: str, results: str | None):
        self._part = part
        self._is_wanted = results is not None and bool(part.made_with)
        self._arguments = (part, settings, fingerprint, results or "", logging.getLogger().level)
        self._child: ChildProcess | None = None
        self._to_send: deque[int] = deque()
        self._sent: deque[int] = deque()
        self._published: list[int] = []
        self._last = 0.0

    def publish(self, number: int) -> None:
        """Begin to publish a video, see `Publisher.publish`."""
        if self._is_wanted:
            self._to_send.append(number)
            self._send()

    def published(self) -> list[int]:
        """The videos that were published since the last call; does not wait."""
        while (self._sent or self._to_send) and self._receive(0.0):
            pass
        found, self._published = self._published, []
        return found

    def wait(self) -> None:
        """Wait until all videos are published, or have failed."""
        while self._sent or self._to_send:
            self._receive(_TIMEOUT)

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def __enter__(self) -> PublishingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self) -> None:
        if self._child is None:
            self._child = ChildProcess(_serve, *self._arguments)
        if not self._sent:
            self._last = time.monotonic()
        while self._to_send and len(self._sent) < _MOST_SENT:
            self._sent.append(self._to_send.popleft())
            self._child.send(self._sent[-1])

    def _receive(self, timeout: float) -> bool:
        """Whether a message came, or the child had to be ended."""
        self._send()
        assert self._child is not None
        try:
            message = self._child.receive(timeout)
        except StallTimeout:
            if time.monotonic() - self._last < _TIMEOUT:
                return False
            self._restart(f"nothing happened for {_TIMEOUT:g} s")
            return True
        except ChildCrashed as error:
            self._restart(str(error))
            return True
        except Exception as error:
            self._restart(repr(error))
            return True
        self._last = time.monotonic()
        if message is not None:
            number = self._sent.popleft()
            if message:
                self._published.append(number)
        return True

    def _restart(self, reason: str) -> None:
        """End the child, and leave out the video that it worked at."""
        self.close()
        number = self._sent.popleft()
        logger.warning("%s: not published yet: %s", self._part.videos[number].path, reason)
        self._to_send.extendleft(reversed(self._sent))
        self._sent.clear()


def _serve(
    connection: Connection,
    part: ShardPlan,
    settings: Settings,
    fingerprint: str,
    results: str,
    level: int,
) -> None:
    """Publish the videos whose numbers come; answer each, and show life in between."""
    log_to_stderr(level)
    publisher = Publisher(part, settings, fingerprint, results)
    on_progress(lambda: connection.send(None))
    while True:
        number = connection.recv()
        with keep_reporting():
            is_published = publisher.publish(number)
        connection.send(is_published)
