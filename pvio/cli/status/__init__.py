"""The state of a collection, finished and unfinished, for `pvio status` and `pvio clean`.

Nothing here computes or writes. Whether a segment is finished is asked in `pvio.pipeline.planning`.
"""
