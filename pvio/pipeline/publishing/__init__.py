"""Finished videos appear one by one, while other jobs still compute.

The last stage, which makes the results whole, is `pvio.pipeline.stages.assemble`; it uses
`pvio.pipeline.results`.
"""
