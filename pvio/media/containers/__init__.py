"""What containers such as MP4 and AVI state: tables, structure, lost packets, limits.

Packets are read in `pvio.media.index`, through `pvio.media.ffmpeg`.
"""
