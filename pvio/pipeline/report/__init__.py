"""The report of a run: `results/report.html`."""

from pvio.pipeline.report.page import render_report

__all__ = ["render_report"]
