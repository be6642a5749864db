"""The way of a frame: decode, batch, run the model, collect rows, for one segment.

Which segments there are, and jobs, live in `pvio.pipeline`.
"""
