"""The frame index: which frames a video has, when each is shown, and where decoding can start.

Built from packets; decoding of frames lives in `pvio.media.decode`.
"""
