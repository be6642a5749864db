"""Statements of containers such as MP4 and AVI: tables, structure, lost packets, limits.

Packets are read in `pvio.media.index`, through `pvio.media.ffmpeg`.
"""
