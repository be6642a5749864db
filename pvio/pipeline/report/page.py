"""Renders the report: videos, predicted against measured seconds, the balance of the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

import pvio
from pvio.layout import STAGES, Stage
from pvio.pipeline.planning.manifest import Plan, Receipt
from pvio.pipeline.report.balance import shard_rows, speed
from pvio.pipeline.report.scatter import Pairs, median_error, predicted_and_measured, scatter
from pvio.text import printable


def render_report(
    videos: Sequence[Mapping[str, str]], plan: Plan, receipts: Mapping[Stage, Sequence[Receipt]]
) -> str:
    """The report as one HTML page without outside references.

    Args:
        videos: the rows of `summary.tsv`, as `parse_summary` gives them.
        plan: the manifest.
        receipts: of the shard jobs, by stage.
    """
    shards = [row for stage in STAGES for row in shard_rows(stage, plan, receipts.get(stage, ()))]
    costs: dict[str, Pairs] = {
        stage: predicted_and_measured(plan, receipts.get(stage, ())) for stage in STAGES
    }
    environment = Environment(
        loader=PackageLoader("pvio.pipeline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    return environment.get_template("report.html").render(
        videos=videos,
        counts={
            status: sum(video["status"] == status for video in videos)
            for status in ("ok", "damaged", "failed", "unreadable", "running", "waiting")
        },
        frames=sum(int(video["frames"]) for video in videos),
        shards=shards,
        longest=max((shard.wall for shard in shards), default=0.0) or 1.0,
        speeds={stage: speed(shards, stage) for stage in STAGES},
        errors={stage: median_error(pairs) for stage, pairs in costs.items()},
        scatter=scatter(costs),
        version=pvio.__version__,
    )


def _shown(value: object) -> object:
    """A value of the page: names may have characters that are no text, or turn what follows."""
    return printable(value) if type(value) is str else value
