"""Videos and images as frames: read exactly, drawn on, encoded.

A wing of packages. Nothing here knows models, runs or results.
"""
