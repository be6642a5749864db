"""Predicted against measured seconds of the segments that a run computed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pvio.pipeline.planning.manifest import Plan, Receipt

Pairs = list[tuple[float, float]]

SIDE = 320
# Points closer than this are one: the page stays small whatever the number of segments.
STEP = 2


@dataclass(frozen=True)
class Scatter:
    """A square plot with logarithmic axes, x predicted and y measured, in SVG units from the top.

    Attributes:
        side: of the square; the diagonal, where both are equal, runs from (0, side) to (side, 0).
        ticks: distance from the origin and text of the powers of ten, the same on both axes.
        paths: for each stage with points the data of an SVG path with a dot for each.
        numbers: of segments, by stage.
    """

    side: int
    ticks: list[tuple[float, str]]
    paths: dict[str, str]
    numbers: dict[str, int]


def predicted_and_measured(plan: Plan, receipts: Iterable[Receipt]) -> Pairs:
    """Costs in seconds of every segment that this run computed, where both are above zero."""
    pairs = [
        (float(getattr(plan.segments[done.segment], f"{receipt.stage}_seconds")), done.cost)
        for receipt in receipts
        for done in receipt.segments
        if done.computed
    ]
    return [pair for pair in pairs if min(pair) > 0]


def median_error(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Median difference of prediction and measurement as a share of what was measured."""
    errors = [abs(predicted / measured - 1) for predicted, measured in pairs]
    return statistics.median(errors) if errors else None


def scatter(costs: Mapping[str, Pairs]) -> Scatter | None:
    """The plot of all stages; None when this run computed nothing."""
    values = [value for pairs in costs.values() for pair in pairs for value in pair]
    if not values:
        return None
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    scale = SIDE / (high - low)

    def at(seconds: float) -> int:
        return round((math.log10(seconds) - low) * scale / STEP) * STEP

    paths = {}
    for stage, pairs in costs.items():
        dots = sorted({(at(predicted), SIDE - at(measured)) for predicted, measured in pairs})
        if dots:
            paths[stage] = "".join(f"M{x} {y}h0" for x, y in dots)
    return Scatter(
        side=SIDE,
        ticks=[((power - low) * scale, f"{10.0**power:g} s") for power in range(low, high + 1)],
        paths=paths,
        numbers={stage: len(pairs) for stage, pairs in costs.items() if pairs},
    )
