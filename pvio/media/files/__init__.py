"""Whole video files: written by the program FFmpeg, and the metadata files next to them.

The functions for users, with the names of parallel-video-io 0.1.3, are in `pvio.video_io`.
"""
