"""Small files in which jobs note how far they are, for the process that shows the progress."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pvio.cache.atomic import atomic_path
from pvio.layout import PROGRESS_FOLDER, STATES_SUFFIX, Stage
from pvio.text import json_text

_SECONDS_BETWEEN_NOTES = 1.0


@dataclass
class JobProgress:
    """The progress of a job.

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
    """The progress that a job noted; None if it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return JobProgress(**{name: int(found[name]) for name in JobProgress.__annotations__})
    except (OSError, ValueError, TypeError, KeyError):
        return None


class VideoStates:
    """A file of what happens to the videos of a job: a line for each change.

    Args:
        path: of the file, which is emptied; None for no file.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._known: dict[int, str] = {}
        with contextlib.suppress(OSError):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")

    def note(self, video: int, state: str, reason: str = "") -> None:
        """Note a new state; an error is ignored, since nothing depends on the file.

        Args:
            video: its number in the plan.
            state: "running", "failed" or "unreadable"; the last two stay.
            reason: of a failure.
        """
        known = self._known.get(video, "")
        if self._path is None or known == state or known in ("failed", "unreadable"):
            return
        self._known[video] = state
        with contextlib.suppress(OSError), self._path.open("ab") as file:
            file.write((json_text([video, state, reason]) + "\n").encode())


def video_states(stage: Stage, shard: str) -> VideoStates:
    """The states of the videos of a shard's job; no file for a job outside the workflow."""
    in_workflow = "PVIO_JOB" in os.environ
    path = Path(PROGRESS_FOLDER, stage, f"{shard}{STATES_SUFFIX}")
    return VideoStates(path if in_workflow else None)
