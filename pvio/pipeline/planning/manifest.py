"""The tables that the stages of a run exchange, as JSON files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from pvio.errors import PvioError
from pvio.layout import Stage

Row = TypeVar("Row")


@dataclass(frozen=True)
class ProbedVideo:
    """One video of the collection, as probing found it.

    Attributes:
        name: of its results.
        path: absolute path.
        is_image_folder: whether it is a folder of images.
        status: "ok" or "unreadable".
        reason: why it is unreadable.
        index_key: key of its frame index in the cache.
        digest: identifies its content.
        n_frames, height, width, rate, duration, codec, pix_fmt: metadata; duration in seconds.
        damage: problems of its container, though it can be read; "" if there are none.
        warning: for the user, though the file is not damaged; usually "".
    """

    name: str
    path: str
    is_image_folder: bool = False
    status: str = "ok"
    reason: str = ""
    index_key: str = ""
    digest: str = ""
    n_frames: int = 0
    height: int = 0
    width: int = 0
    rate: float = 0.0
    duration: float = 0.0
    codec: str = ""
    pix_fmt: str = ""
    damage: str = ""
    warning: str = ""


@dataclass(frozen=True)
class PlannedSegment:
    """A segment with its predicted costs.

    Attributes:
        video: number of the video in `Plan.videos`.
        start, stop: frame numbers, `[start, stop)`.
        infer_seconds, encode_seconds: predicted, in the measure of `SegmentReceipt.cost`.
    """

    video: int
    start: int
    stop: int
    infer_seconds: float
    encode_seconds: float


@dataclass(frozen=True)
class Plan:
    """The sharding manifest.

    Attributes:
        videos: the whole collection, unreadable videos included.
        segments: of all readable videos, in the order of the collection.
        infer_shards, encode_shards: for every shard, the numbers of its segments. The shard with
            the most to do is the first. None of a stage that the settings do not need.
        made_with: settings and model fingerprint that products depend on, see `made_with`.
        n_finished: readable videos of which all segments were finished before.
    """

    videos: list[ProbedVideo]
    segments: list[PlannedSegment]
    infer_shards: list[list[int]] = field(metadata={"before": "infer"})
    encode_shards: list[list[int]] = field(metadata={"before": "encode"})
    made_with: dict[str, str] = field(default_factory=dict)
    n_finished: int = 0

    def shards(self, stage: Stage) -> list[list[int]]:
        """For every shard of a stage, the numbers of its segments."""
        return {"infer": self.infer_shards, "encode": self.encode_shards}[stage]

    def shard_plans(self, stage: Stage) -> Iterator[ShardPlan]:
        """The parts of the plan that each job of a stage needs."""
        by_video: dict[int, list[int]] = {}
        for number, segment in enumerate(self.segments):
            by_video.setdefault(segment.video, []).append(number)
        shards = self.shards(stage)
        for k, numbers in enumerate(shards, 1):
            videos = sorted({self.segments[number].video for number in numbers})
            known = [number for video in videos for number in by_video[video]]
            yield ShardPlan(
                stage,
                f"{k}-of-{len(shards)}",
                numbers,
                {video: self.videos[video] for video in videos},
                {number: self.segments[number] for number in known},
                self.made_with,
            )


@dataclass(frozen=True)
class ShardPlan:
    """The part of a plan that the job of a shard needs; a whole plan may exceed its memory.

    Attributes:
        stage: of the job.
        shard: "k-of-n".
        segment_numbers: of its segments, in the plan.
        videos: those of its segments, by their number in the plan.
        segments: all segments of these videos, by their number in the plan.
        made_with: see `Plan`.
    """

    stage: Stage
    shard: str
    segment_numbers: list[int] = field(metadata={"before": "numbers"})
    videos: dict[int, ProbedVideo]
    segments: dict[int, PlannedSegment]
    made_with: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentReceipt:
    """The outcome of a segment in a shard job.

    Attributes:
        segment: its number in `Plan.segments`.
        digests: of its entries in the cache, by kind.
        computed: False if the result existed already.
        is_new: whether it was computed since the plan was made: also by an attempt of this job that
            ended early.
        status: rows by status (infer only).
        seconds: measured when it was computed: total, and parts of it, in wall time; cost, and the
            part of it in the model's `prepare`, see `cost`.
        failure_reason: why it has no result.
        failed: with a `failure_reason`, whether computing it failed; else its video can no longer
            be read.
        skipped_reason: why frames of it were skipped: the decoder hung or crashed.
        not_finite: rows of decoded frames whose output is NaN or infinite, by output.
    """

    segment: int
    digests: dict[str, str]
    computed: bool
    status: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failure_reason: str = field(default="", metadata={"before": "failure"})
    skipped_reason: str = field(default="", metadata={"before": "given_up"})
    not_finite: dict[str, int] = field(default_factory=dict)
    failed: bool = False
    is_new: bool = False

    @classmethod
    def of_entries(
        cls,
        segment: int,
        kinds: Sequence[str],
        found: Sequence[dict[str, Any]],
        *,
        computed: bool,
        is_new: bool = False,
    ) -> SegmentReceipt:
        """The outcome of a segment that is finished.

        Args:
            segment: its number.
            kinds: of the entries of a stage.
            found: their metadata.
            computed: whether this job has computed them.
            is_new: whether they were computed since the plan was made.
        """
        last = found[-1]
        skipped = last["skipped_reason"] if "skipped_reason" in last else last["given_up"]
        return cls(
            segment,
            {kind: each["digest"] for kind, each in zip(kinds, found, strict=True)},
            computed,
            last.get("status", {}),
            last["seconds"],
            skipped_reason=skipped,
            not_finite=last.get("not_finite", {}),
            is_new=is_new,
        )

    @property
    def cost(self) -> float:
        """Seconds of work: of the CPU, or wall time if a CUDA device did most of it.

        Other jobs on the machine increase wall time, but not CPU time.
        """
        return self.seconds.get("cost", self.seconds.get("total", 0.0))


@dataclass(frozen=True)
class Receipt:
    """The results of a shard job.

    Attributes:
        stage: "infer" or "encode".
        shard: "k-of-n".
        seconds: wall time of the job's work.
        segments: one entry per segment.
    """

    stage: Stage
    shard: str
    seconds: float
    segments: list[SegmentReceipt]


# Receipts of segments that have no result, by stage and number of the segment.
Failures = dict[tuple[Stage, int], SegmentReceipt]


def failures_in(receipts: Iterable[Receipt]) -> Failures:
    """The segments without a result."""
    return {
        (receipt.stage, done.segment): done
        for receipt in receipts
        for done in receipt.segments
        if done.failure_reason
    }


def read_probe(path: str | os.PathLike[str]) -> list[ProbedVideo]:
    """Read the output of `pvio probe`.

    Raises:
        PvioError: when the file cannot be read, or another version of pvio wrote it.
    """
    data = _read(path)
    with _of_this_version(path):
        if not isinstance(data, list):
            raise PvioError("expected a list of videos")
        return [from_json(ProbedVideo, row) for row in data]


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the output of `pvio plan`.

    Raises:
        PvioError: when the file cannot be read, or another version of pvio wrote it.
    """
    data = _read(path)
    with _of_this_version(path):
        videos = [from_json(ProbedVideo, row) for row in data["videos"]]
        segments = [from_json(PlannedSegment, row) for row in data["segments"]]
        return from_json(Plan, data | {"videos": videos, "segments": segments})


def read_shard_plan(path: str | os.PathLike[str], stage: Stage, shard: str) -> ShardPlan:
    """Read the plan of a shard, from its own file or from the whole plan.

    Args:
        path: the output of `pvio plan`.
        stage: of the job.
        shard: `k-of-n` of the job.

    Raises:
        PvioError: when there is no such shard, the file is the plan of another one or cannot be
            read, or another version of pvio wrote it.
    """
    data = _read(path)
    if isinstance(data, dict) and "shard" not in data:
        plans = {each.shard: each for each in read_plan(path).shard_plans(stage)}
        if shard not in plans:
            raise PvioError(
                f"--shard {shard}: expected k-of-{len(plans)}, the plan has {len(plans)} shard(s)"
            )
        return plans[shard]
    with _of_this_version(path):
        found = data["stage"], data["shard"]
        videos = {int(n): from_json(ProbedVideo, row) for n, row in data["videos"].items()}
        segments = {int(n): from_json(PlannedSegment, row) for n, row in data["segments"].items()}
        part = from_json(ShardPlan, data | {"videos": videos, "segments": segments})
    if found != (stage, shard):
        raise PvioError(f"{path} is the plan of {found[0]} {found[1]}, not {shard}")
    return part


def read_receipt(path: str | os.PathLike[str]) -> Receipt:
    """Read the output of a shard job.

    Raises:
        PvioError: when the file cannot be read, or another version of pvio wrote it.
    """
    data = _read(path)
    with _of_this_version(path):
        segments = [from_json(SegmentReceipt, row) for row in data["segments"]]
        return from_json(Receipt, data | {"segments": segments})


def from_json(kind: type[Row], data: Any) -> Row:
    """A dataclass of the fields of a JSON object.

    Fields that another version of pvio added are ignored; missing ones have their defaults. A field
    that was renamed is read under both names: `metadata` of the field has the one `before`.

    Raises:
        PvioError: when the object lacks a field without a default, or is none.
    """
    if not isinstance(data, dict):
        raise PvioError(f"expected an object with the fields of {kind.__name__}, got {data!r:.80}")
    known = fields(cast(Any, kind))
    values = {}
    for each in known:
        before = each.metadata.get("before", each.name)
        if each.name in data or before in data:
            values[each.name] = data[each.name if each.name in data else before]
    required = [each.name for each in known if each.default is each.default_factory is MISSING]
    if lacking := [name for name in required if name not in values]:
        raise PvioError(f"{kind.__name__} lacks {', '.join(lacking)}")
    return kind(**values)


@contextlib.contextmanager
def _of_this_version(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (PvioError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise PvioError(
            f"{path} was written by another version of pvio ({error}); run the workflow again with "
            "`snakemake --forcerun probe`: entries of the cache are not computed again"
        ) from error


def _read(path: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PvioError(f"cannot read {path}: {error}; run the stage before first") from error
