"""Predicted seconds of inference and encoding, the weights of the LPT plan.

A fixed table says what frames of a codec and size cost. Every run keeps, for each kind of work on
each kind of video, by what factor the table was off; the next plan multiplies by it.
"""

from __future__ import annotations

import itertools
import json
import logging
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pvio.cache.atomic import write_json
from pvio.cache.digest import hash_key
from pvio.config.settings import Settings
from pvio.layout import COSTS_FILE, Stage
from pvio.pipeline.planning.manifest import ProbedVideo

logger = logging.getLogger(__name__)

# Older kinds are forgotten: a model under development changes often.
MOST_KEYS = 5000
# Limits the weight of earlier runs, since machines and libraries change.
MEMORY_FRAMES = 20_000

# Nanoseconds per pixel on one core of a 2020s server, 4:2:0 8 bit: clips of each codec decoded with
# one thread, at usual bit rates.
DECODE_NS_PER_PIXEL = {
    "h264": 1.8,
    "hevc": 2.4,
    "av1": 1.5,
    "vp9": 1.8,
    "vp8": 1.4,
    "mpeg4": 1.2,
    "mjpeg": 3.0,
    "images": 25.0,
    "image": 25.0,
}
OTHER_CODEC_NS_PER_PIXEL = 2.0
# The built-in tracker, and x264 at preset medium; used for all other models and encoders as well.
MODEL_NS_PER_PIXEL = 1.5
ENCODE_NS_PER_PIXEL = 17.0
SECONDS_PER_FRAME = {"infer": 0.6e-3, "encode": 2e-3}


class StageWorkload(NamedTuple):
    """The work of a stage on frames.

    Attributes:
        stage: of the workflow.
        key: digest of the settings and of the model that its cost depends on.
        size: (height, width) of the model's input; None for the size of the video.
        encodes: whether it encodes frames.
    """

    stage: Stage
    key: str
    size: tuple[int, int] | None
    encodes: bool = False

    def by_table(self, video: ProbedVideo) -> float:
        """Seconds per frame of the video, by the fixed table."""
        pixels = video.height * video.width
        work = pixels * DECODE_NS_PER_PIXEL.get(video.codec, OTHER_CODEC_NS_PER_PIXEL)
        if self.stage == "infer":
            work += (self.size[0] * self.size[1] if self.size else pixels) * MODEL_NS_PER_PIXEL
        if self.encodes:
            work += pixels * ENCODE_NS_PER_PIXEL
        return SECONDS_PER_FRAME[self.stage] + work * 1e-9


def stage_workloads(settings: Settings, model: str) -> dict[Stage, StageWorkload]:
    """The workload of each stage under the settings.

    Args:
        settings: `model`, `decoder` and `output` matter.
        model: `model_fingerprint` of the settings.
    """
    output = settings.output.hashed()
    encodes_in_infer = settings.output.encodes_in("infer")
    infer = hash_key(
        model=model,
        inputs=settings.model.input_settings(),
        device=settings.model.device.partition(":")[0],
        decoder=settings.resolved_decoder,
        output=output if encodes_in_infer else None,
    )
    # Drawing costs little compared with encoding, so costs of encoding do not depend on the model.
    encode = hash_key(output=output)
    return {
        "infer": StageWorkload("infer", infer, settings.model.size, encodes_in_infer),
        "encode": StageWorkload("encode", encode, None, True),
    }


class CostKey(NamedTuple):
    """Frames of equal cost: one workload on videos of one codec and size."""

    stage: Stage
    work: str
    codec: str
    height: int
    width: int


class CostFactors(NamedTuple):
    """Measured seconds of a kind, relative to the fixed table.

    Attributes:
        frame: each frame.
        prepare: extra time of the first segment of a video in a job.
        n_frames: frames they were measured on.
    """

    frame: float
    prepare: float
    n_frames: int


class CostSample(NamedTuple):
    """The measured cost of a segment.

    Attributes:
        work, video: the work of the stage, on the frames of which video.
        n_frames: of the segment.
        seconds: of one core; see `SegmentReceipt.cost`.
        prepare: the part of them in the model's `prepare`.
    """

    work: StageWorkload
    video: ProbedVideo
    n_frames: int
    seconds: float
    prepare: float = 0.0


class CostModel:
    """Predicts seconds.

    Args:
        known: measurements of earlier runs.
    """

    def __init__(self, known: Mapping[CostKey, CostFactors] | None = None):
        self._known = dict(known or {})
        self._guessed: dict[CostKey, CostFactors] = {}

    def seconds(self, work: StageWorkload, video: ProbedVideo, n_frames: int, first: bool) -> float:
        """Predicted seconds of one core for a segment.

        Args:
            work: of the stage on the frames.
            video: of the frames.
            n_frames: of the segment.
            first: whether it is the first of its video in a job, for which the model prepares.
        """
        kind = _key_of(work, video)
        factors = self._known.get(kind) or self._guess(kind)
        units = n_frames * factors.frame + (factors.prepare if first else 0.0)
        return units * work.by_table(video)

    def is_measured(self, work: StageWorkload) -> bool:
        """Whether this work was measured before, on any video."""
        return any((key.stage, key.work) == (work.stage, work.key) for key in self._known)

    def update(self, found: Iterable[CostSample]) -> None:
        """Refine the costs by measured segments; each frame has equal weight."""
        by_kind: dict[CostKey, list[CostSample]] = {}
        for each in found:
            by_kind.setdefault(_key_of(each.work, each.video), []).append(each)
        self._guessed.clear()
        for kind, segments in by_kind.items():
            new = _factors(segments)
            # Moved to the end: the most recently used kinds are kept longest.
            old = self._known.pop(kind, CostFactors(0.0, 0.0, 0))
            share = new.n_frames / (new.n_frames + min(old.n_frames, MEMORY_FRAMES))
            self._known[kind] = CostFactors(
                old.frame + share * (new.frame - old.frame),
                old.prepare + share * (new.prepare - old.prepare),
                old.n_frames + new.n_frames,
            )

    @classmethod
    def load(cls, cache: str) -> CostModel:
        """The costs of earlier runs from the folder of the cache; none if unreadable."""
        return cls(_read(Path(cache) / COSTS_FILE))

    def save(self, cache: str) -> None:
        """Keep them in the folder of the cache for the next plan."""
        last = list(self._known.items())[-MOST_KEYS:]
        rows = [kind._asdict() | factors._asdict() for kind, factors in last]
        write_json(Path(cache) / COSTS_FILE, rows)

    def _guess(self, kind: CostKey) -> CostFactors:
        """The most similar measurements: the same work on other videos, or the stage."""
        if kind not in self._guessed:
            stage = [(k, factors) for k, factors in self._known.items() if k.stage == kind.stage]
            near = [factors for k, factors in stage if k.work == kind.work]
            near = near or [factors for _, factors in stage] or [CostFactors(1.0, 0.0, 0)]
            self._guessed[kind] = CostFactors(
                statistics.median(factors.frame for factors in near),
                statistics.median(factors.prepare for factors in near),
                0,
            )
        return self._guessed[kind]


def _read(path: Path) -> dict[CostKey, CostFactors]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {
            CostKey(*(row[name] for name in CostKey._fields)): CostFactors(
                float(row["frame"]), float(row["prepare"]), int(row["n_frames"])
            )
            for row in rows
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s cannot be read: %r; costs are measured again", path, error)
        return {}


def _key_of(work: StageWorkload, video: ProbedVideo) -> CostKey:
    return CostKey(work.stage, work.key, video.codec, video.height, video.width)


def _factors(segments: list[CostSample]) -> CostFactors:
    """Of segments of one kind.

    Frames count by the median, so that the first segment of a job, which pays for imports, does not
    matter much; and where no `prepare` ran, since decoding continues meanwhile.
    """
    unit = segments[0].work.by_table(segments[0].video)
    frames = sorted(
        ((each.seconds - each.prepare) / each.n_frames, each.n_frames)
        for each in [each for each in segments if not each.prepare] or segments
    )
    passed = itertools.accumulate(n for _, n in frames)
    half = sum(n for _, n in frames) / 2
    frame = next(f for (f, _), n in zip(frames, passed, strict=True) if n >= half)
    prepares = [max(0.0, e.seconds - frame * e.n_frames) for e in segments if e.prepare]
    prepare = statistics.median(prepares) if prepares else 0.0
    return CostFactors(frame / unit, prepare / unit, sum(each.n_frames for each in segments))
