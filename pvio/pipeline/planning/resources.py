"""Resources of jobs, for schedulers: predicted seconds, and memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import get_args

from pvio.cache.atomic import write_json, write_text
from pvio.config.settings import Settings
from pvio.errors import PvioError
from pvio.layout import (
    COLLECTION_SIZE_FILE,
    OLD_RESOURCES_FILE,
    PLAN_IDENTITY_FILE,
    RESOURCES_FILE,
    RESULTS_FOLDER,
    Stage,
    receipt_file,
    shard_plan_file,
)
from pvio.pipeline.guard import reason_for_video
from pvio.pipeline.planning.manifest import Plan, ProbedVideo, from_json

# Jobs that schedulers handle well: starting one costs little in comparison, and a cluster
# grants the time. The aim is the suggested duration.
SHORTEST_SECONDS, LONGEST_SECONDS = 5 * 60, 8 * 3600
_AIM_SECONDS = 3600
# No warnings if all jobs together take less than this.
_SMALL_SECONDS = 60

# For slower nodes, wrong predictions, and models that were never measured.
_TIME_FACTOR, _START_MINUTES, _MOST_MINUTES = 3, 15, 24 * 60
# Python and PyTorch, and two processes of Snakemake's around the job on a cluster.
_BASE_MIB = {"infer": 1500, "encode": 1200}
# Bytes per sample of a batch: four batches of uint8, one of float32, and the memory of the model,
# which is unknown: eight times its input.
_BYTES_PER_INPUT_SAMPLE = 4 + 4 + 8 * 4
# Bytes per pixel of a video: frames that are prefetched or held by the decoder; with an encoder
# also its look-ahead and references (x264 at preset medium: about 60 frames).
_BYTES_PER_PIXEL = {"infer": 24 * 3, "encode": (24 + 60) * 3}
# Of the two processes that publish finished videos: memory, also of each frame of a video, and
# frames per second. Measured: 145 and 114 MiB, 300 bytes, and 24,000.
_PUBLISHING_MIB, _PUBLISHING_BYTES_PER_FRAME, _PUBLISHING_RATE = 280, 400, 5000


@dataclass(frozen=True)
class JobResources:
    """The resources of a job.

    Attributes:
        seconds: predicted, on one core or device; finished segments count as 0.
        memory_mib: MiB.
        frames: of the segments that are to be computed.
        is_measured: whether this work was measured before; the seconds are a rough guess otherwise.
        publishing_seconds: to put together all of its videos.
    """

    seconds: float
    memory_mib: int = field(metadata={"before": "memory"})
    frames: int = 0
    is_measured: bool = False
    publishing_seconds: float = 0.0

    def runtime_minutes(self, attempt: int = 1) -> int:
        """Time limit to request; later attempts get more, but at most a day more."""
        seconds = self.seconds + self.publishing_seconds
        first = math.ceil(_START_MINUTES + _TIME_FACTOR * seconds / 60)
        return max(first, min(first * attempt, _MOST_MINUTES))

    def mem_mb(self, attempt: int = 1) -> int:
        """Memory to request, in MiB; later attempts get more."""
        return self.memory_mib * attempt


@dataclass(frozen=True)
class CollectionSize:
    """Numbers of videos of a plan.

    Attributes:
        videos: that can be read.
        unreadable: the other ones.
        finished: of the readable ones, those of which all segments were finished before.
        where: name of the folder in which finished videos appear.
    """

    videos: int = 0
    unreadable: int = 0
    finished: int = 0
    where: str = RESULTS_FOLDER


# Of the jobs of each stage.
Resources = dict[Stage, list[JobResources]]


def job_resources(
    stage: Stage,
    seconds: Sequence[float],
    frames: Sequence[int],
    plan: Plan,
    settings: Settings,
    is_measured: bool = False,
) -> list[JobResources]:
    """The resources of a stage's jobs.

    Args:
        stage: infer or encode.
        seconds: predicted for each job.
        frames: to compute of each segment.
        plan: with the videos of each.
        settings: `model` and `output` matter.
        is_measured: see `JobResources`.
    """
    needs = []
    for video in plan.videos:
        try:
            needs.append(_memory(stage, video, settings))
        except Exception as error:
            reason_for_video(error, video.path, "predicting", settings.cache)
            needs.append(_BASE_MIB[stage])
    found = []
    for each, numbers in zip(seconds, plan.shards(stage), strict=True):
        videos = {plan.segments[number].video for number in numbers}
        memory = max((needs[video] for video in videos), default=_BASE_MIB[stage])
        to_do = sum(frames[number] for number in numbers)
        n_frames = sum(plan.videos[video].n_frames for video in videos)
        publishing = round(n_frames / _PUBLISHING_RATE, 3)
        found.append(JobResources(round(each, 3), memory, to_do, is_measured, publishing))
    return found


def _memory(stage: Stage, video: ProbedVideo, settings: Settings) -> int:
    pixels = video.height * video.width
    n = pixels * _BYTES_PER_PIXEL["encode" if settings.output.encodes_in(stage) else "infer"]
    if stage == "infer":
        model = settings.model
        size = model.size[0] * model.size[1] if model.size else pixels
        samples = model.batch_size * size * (3 if model.channels == "rgb" else 1)
        n += samples * _BYTES_PER_INPUT_SAMPLE
    n += video.n_frames * _PUBLISHING_BYTES_PER_FRAME
    return _BASE_MIB[stage] + _PUBLISHING_MIB + math.ceil(n / (1 << 20))


def write_shard_plans(
    folder: Path,
    plan: Plan,
    resources: Resources,
    identity: str = "",
    where: str = RESULTS_FOLDER,
) -> None:
    """Write the plan of each job to `<stage>/k-of-n.json`, and the resources of all jobs.

    Args:
        folder: to write to.
        plan: the manifest.
        resources: of all jobs.
        identity: of the run, see `settled_shards`.
        where: see `CollectionSize`.
    """
    for stage in resources:
        for shard in plan.shard_plans(stage):
            write_json(folder / shard_plan_file(stage, shard.shard), shard)
    write_json(folder / RESOURCES_FILE, resources)
    readable = sum(video.status == "ok" for video in plan.videos)
    size = CollectionSize(readable, len(plan.videos) - readable, plan.n_finished, where)
    write_json(folder / COLLECTION_SIZE_FILE, size)
    write_text(folder / PLAN_IDENTITY_FILE, identity)


def read_job_resources(folder: str, stage: Stage, shard: str) -> JobResources:
    """The resources of one job, from the file of `write_shard_plans`.

    Raises:
        FileNotFoundError: for `folder`, when there is no such job, as before the plan is made.
    """
    number, _, n = shard.partition("-of-")
    path = _file(folder)
    try:
        found = _read(path, path.stat().st_mtime_ns).get(stage, [])
    except FileNotFoundError:
        found = []
    if len(found) != int(n):
        raise FileNotFoundError(2, "no plan of this number of shards", folder)
    return found[int(number) - 1]


def planned_shards(folder: str) -> int:
    """The number of shards of the present plan; 0 without a plan."""
    path = _file(folder)
    try:
        return len(_read(path, path.stat().st_mtime_ns).get("infer", []))
    except FileNotFoundError:
        return 0


def read_resources(folder: str) -> Resources:
    """The resources of all jobs, by stage.

    Raises:
        FileNotFoundError: before the plan is made.
    """
    path = _file(folder)
    return _read(path, path.stat().st_mtime_ns)


def read_collection_size(folder: str) -> CollectionSize:
    """The numbers of videos of the plan.

    Raises:
        OSError: before the plan is made.
    """
    path = Path(folder, COLLECTION_SIZE_FILE)
    try:
        return from_json(CollectionSize, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, PvioError) as error:
        raise FileNotFoundError(
            2, f"no plan of this version of pvio ({error})", str(path)
        ) from error


def settled_shards(folder: str, identity: str, stages: Sequence[Stage]) -> int:
    """Into how many shards a plan is spread whose jobs have all ended, so that it stays.

    Args:
        folder: of `write_shard_plans`.
        identity: of the run; a plan that was made for another collection or other settings does
            not count.
        stages: with jobs for shards.

    Returns:
        The number; 0 where a plan is to be made, or jobs are to be run.
    """
    n = planned_shards(folder)
    try:
        if not n or Path(folder, PLAN_IDENTITY_FILE).read_text(encoding="utf-8") != identity:
            return 0
    except OSError:
        return 0
    receipts = [receipt_file(stage, f"{k}-of-{n}") for stage in stages for k in range(1, n + 1)]
    return n if all(map(os.path.exists, receipts)) else 0


def _file(folder: str) -> Path:
    """The file of the resources, also of an earlier version of pvio."""
    path, old = Path(folder, RESOURCES_FILE), Path(folder, OLD_RESOURCES_FILE)
    return old if old.exists() and not path.exists() else path


@lru_cache(maxsize=1)
def _read(path: Path, changed: int) -> Resources:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {
            stage: [from_json(JobResources, each) for each in data[stage]]
            for stage in get_args(Stage)
            if stage in data
        }
    except (ValueError, TypeError, PvioError) as error:
        # Written by another version of pvio, or truncated: treated as missing.
        text = f"no plan of this version of pvio ({error})"
        raise FileNotFoundError(2, text, str(path)) from error


def shard_count_warnings(folder: str, since: float) -> list[str]:
    """Warnings about the number of shards, for cluster jobs; returned once.

    Args:
        folder: of `write_shard_plans`.
        since: seconds since 1970; earlier plans give no warning.
    """
    path = _file(folder)
    changed = path.stat().st_mtime_ns
    if changed < since * 1e9 or (path, changed) in _told:
        return []
    _told.add((path, changed))
    return list(_disproportions(_read(path, changed)))


_told: set[tuple[Path, int]] = set()


def _disproportions(resources: Resources) -> Iterator[str]:
    for stage, loads in resources.items():
        total, longest = sum(each.seconds for each in loads), max(each.seconds for each in loads)
        n = max(1, round(total / _AIM_SECONDS))
        better = f"shards: {n} gives jobs of about an hour" if n > 1 else "consider shards: 1"
        if total < _SMALL_SECONDS or not all(each.is_measured for each in loads):
            continue  # a guess is no ground for advice
        if longest < SHORTEST_SECONDS and len(loads) > 1:
            yield (
                f"the {len(loads)} {stage} jobs are predicted to take at most {longest:.0f} s "
                f"each, so start-up time dominates; {better}"
            )
        elif longest > LONGEST_SECONDS:
            yield (
                f"the {len(loads)} {stage} jobs are predicted to take up to {longest / 3600:.1f} h "
                f"each: they may exceed a time limit, and few can run at once; {better}"
            )
