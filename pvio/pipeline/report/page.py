"""Renders the report: videos, predicted against measured seconds, the balance of the shards."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

import pvio
from pvio.pipeline.planning.manifest import Plan, Receipt
from pvio.pipeline.report.balance import shard_rows, speed
from pvio.pipeline.report.scatter import median_error, predicted_and_measured, scatter
from pvio.pipeline.results.summary import parse_summary
from pvio.text import printable


def render_report(
    summary: str, plan: Plan, infer: Sequence[Receipt], encode: Sequence[Receipt]
) -> str:
    """The report as one HTML page without outside references.

    Args:
        summary: content of `summary.tsv`.
        plan: the manifest.
        infer, encode: receipts of the shard jobs.
    """
    videos = parse_summary(summary)
    shards = shard_rows("infer", plan, infer) + shard_rows("encode", plan, encode)
    costs = {"infer": predicted_and_measured(plan, infer)}
    costs["encode"] = predicted_and_measured(plan, encode)
    environment = Environment(
        loader=PackageLoader("pvio", "pipeline/report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    return environment.get_template("report.html").render(
        videos=videos,
        counts={
            status: sum(video["status"] == status for video in videos)
            for status in ("ok", "damaged", "failed", "unreadable")
        },
        frames=sum(int(video["frames"]) for video in videos),
        shards=shards,
        longest=max((shard.wall for shard in shards), default=0.0) or 1.0,
        speeds={stage: speed(shards, stage) for stage in ("infer", "encode")},
        errors={stage: median_error(pairs) for stage, pairs in costs.items()},
        scatter=scatter(costs),
        version=pvio.__version__,
    )


def _shown(value: object) -> object:
    """A value of the page: names may have characters that are no text, or turn what follows."""
    return printable(value) if type(value) is str else value
