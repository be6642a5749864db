"""The report of a run, `results/report.html`: a page, and the numbers on it.

Reads plans, receipts and the summary; computes nothing that a table does not hold.
"""

from pvio.pipeline.report.page import render_report

__all__ = ["render_report"]
