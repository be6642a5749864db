"""Small files in which jobs note how far they are, for the process that shows the progress."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pvio.cache.atomic import atomic_path
from pvio.layout import PROGRESS_FOLDER, Stage

_SECONDS_BETWEEN_NOTES = 1.0


@dataclass
class JobProgress:
    """How far a job is.

    Attributes:
        done, total: frames; those of segments that were finished before do not count.
        published: videos whose products appeared in the results.
        failed: videos with a segment that failed.
    """

    done: int = 0
    total: int = 0
    published: int = 0
    failed: int = 0


class ProgressFile:
    """The file of one job; it is written at most once a second.

    Args:
        path: of the file; None for no file.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._last = float("-inf")

    def write(self, progress: JobProgress, *, at_once: bool = False) -> None:
        """Write the progress; an error is ignored, since nothing depends on the file.

        Args:
            progress: of the job.
            at_once: whether to write it, even if it was written less than a second ago.
        """
        now = time.monotonic()
        if self._path is None or (not at_once and now - self._last < _SECONDS_BETWEEN_NOTES):
            return
        self._last = now
        try:
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        except Exception:
            self._path = None


def progress_file(stage: Stage, shard: str) -> ProgressFile:
    """The file of a shard's job; none for a job that was not started by the workflow."""
    in_workflow = "PVIO_JOB" in os.environ
    return ProgressFile(Path(PROGRESS_FOLDER, stage, f"{shard}.json") if in_workflow else None)


def read_progress(path: Path) -> JobProgress | None:
    """What a job noted; None if it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return JobProgress(**{name: int(found[name]) for name in JobProgress.__annotations__})
    except (OSError, ValueError, TypeError, KeyError):
        return None
