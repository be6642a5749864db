"""Products of a run: published as a whole, summarized, verified.

Segments are computed in `pvio.pipeline.stages`.
"""
