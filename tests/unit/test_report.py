"""The report shows predicted and measured seconds of the segments of a run."""

from __future__ import annotations

import random
import re

import pytest

from pvio.pipeline.planning.manifest import (
    Plan,
    PlannedSegment,
    ProbedVideo,
    Receipt,
    SegmentReceipt,
)
from pvio.pipeline.report import render_report
from pvio.pipeline.report.scatter import SIDE, median_error, predicted_and_measured, scatter


def plan(*predicted: float) -> Plan:
    segments = [
        PlannedSegment(0, i, i + 1, seconds, seconds) for i, seconds in enumerate(predicted)
    ]
    return Plan([ProbedVideo("a", "a.mp4")], segments, [list(range(len(segments)))], [])


def receipt(*measured: float, computed: bool = True) -> Receipt:
    segments = [
        SegmentReceipt(i, "", computed, seconds={"total": 9.0, "cost": seconds})
        for i, seconds in enumerate(measured)
    ]
    return Receipt("infer", "1-of-1", 1.0, segments)


def test_the_error_is_the_median_share_of_what_was_measured() -> None:
    pairs = predicted_and_measured(plan(1.0, 3.0, 10.0), [receipt(1.25, 2.0, 10.0)])
    assert pairs == [(1.0, 1.25), (3.0, 2.0), (10.0, 10.0)]
    assert median_error(pairs) == pytest.approx(0.2)


def test_segments_of_earlier_runs_and_of_no_time_are_left_out() -> None:
    assert predicted_and_measured(plan(1.0), [receipt(1.0, computed=False)]) == []
    assert predicted_and_measured(plan(1.0), [receipt(0.0)]) == []
    assert median_error([]) is None
    assert scatter({"infer": []}) is None


def test_points_lie_where_their_seconds_are_on_the_axes() -> None:
    plot = scatter({"infer": [(1.0, 100.0), (100.0, 1.0)], "encode": [(10.0, 10.0)]})
    assert plot is not None
    assert plot.ticks == [(0.0, "1 s"), (SIDE / 2, "10 s"), (float(SIDE), "100 s")]
    assert plot.paths == {
        "infer": f"M0 0h0M{SIDE} {SIDE}h0",
        "encode": f"M{SIDE // 2} {SIDE // 2}h0",
    }


def test_the_plot_stays_small_with_many_segments() -> None:
    draw = random.Random(1)
    pairs = [
        (s := 10 ** draw.uniform(-1, 2), s * draw.lognormvariate(0, 0.2)) for _ in range(50_000)
    ]
    plot = scatter({"infer": pairs})
    assert plot is not None
    assert plot.numbers == {"infer": 50_000}
    assert len(plot.paths["infer"]) < 60_000


def test_the_page_has_the_plot_and_its_error_only_where_something_was_computed() -> None:
    page = render_report([], plan(1.0), {"infer": [receipt(1.25)]})
    assert "they differ by 20 % of the measured (median of 1)" in page
    assert re.search(r"<svg[^>]*aria-labelledby=\"plot-title\"", page)
    assert "<svg" not in render_report([], plan(1.0), {"infer": [receipt(1.25, computed=False)]})


def test_shards_show_the_work_measured_next_to_the_wall_time() -> None:
    page = render_report([], plan(1.0, 1.0), {"infer": [receipt(1.25, 1.5)]})
    row = re.search(r"<td>1-of-1</td>.*?</tr>", page, re.DOTALL)
    assert row
    assert re.findall(r"<td class=\"n\">([\d.]+)</td>", row[0])[-3:] == ["2.0", "2.8", "18.0"]
