"""The report of a run: `results/report.html`."""

from pvio.report.page import render_report

__all__ = ["render_report"]
