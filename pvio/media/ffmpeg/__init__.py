"""FFmpeg itself: opening files safely, its log, its packets, its shared libraries.

What its packets mean is worked out in `pvio.media.index`.
"""
