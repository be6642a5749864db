"""Finished work on disk: one file per entry, found by key, written as a whole.

Knows files, digests and keys; what an entry means is known to `pvio.pipeline.planning`.
"""
