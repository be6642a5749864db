"""The frame index: the frames of a video, when each is shown, and where decoding can start.

Built from packets; decoding of frames lives in `pvio.media.decode`.
"""
