"""What is done of a collection and what is to do, for `pvio status` and `pvio clean`.

Nothing here computes or writes. Whether a segment is finished is asked in `pvio.pipeline.planning`.
"""
