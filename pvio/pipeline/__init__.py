"""The commands of the workflow: plans, jobs, stages, results and the report.

A wing of packages. Decoding lives in `pvio.media`, the model in `pvio.inference`.
"""
