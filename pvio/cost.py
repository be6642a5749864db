"""Predicted seconds of decoding, inference and encoding, the weights of the LPT plan.

Only the ratios between videos matter for the balance.
"""

from __future__ import annotations

from pvio.media.index import FrameIndex

# Nanoseconds per pixel on one core of a 2020s server, 4:2:0 8 bit, measured by decoding the test
# clips of each codec with one thread.
DECODE_NS_PER_PIXEL = {
    "h264": 5.0,
    "hevc": 6.0,
    "av1": 6.0,
    "vp9": 4.0,
    "vp8": 4.0,
    "mpeg4": 3.0,
    "mjpeg": 6.0,
    "images": 25.0,
}
OTHER_CODEC_NS_PER_PIXEL = 6.0
MODEL_NS_PER_PIXEL = 8.0
# x264 at preset medium; other presets scale all videos alike.
ENCODE_NS_PER_PIXEL = 45.0
SECONDS_PER_FRAME = 1e-4


def infer_seconds(index: FrameIndex, n_frames: int, size: tuple[int, int] | None) -> float:
    """Predicted seconds to decode frames and run the model on them.

    Args:
        index: of the video.
        n_frames: number of frames.
        size: (height, width) the model gets; None for the video's own.
    """
    pixels = index.height * index.width
    model_pixels = size[0] * size[1] if size else pixels
    return n_frames * (
        SECONDS_PER_FRAME + decode_seconds(index) + model_pixels * MODEL_NS_PER_PIXEL * 1e-9
    )


def encode_seconds(index: FrameIndex, n_frames: int) -> float:
    """Predicted seconds to decode frames, draw on them and encode them."""
    pixels = index.height * index.width
    return n_frames * (
        SECONDS_PER_FRAME + decode_seconds(index) + pixels * ENCODE_NS_PER_PIXEL * 1e-9
    )


def decode_seconds(index: FrameIndex) -> float:
    """Predicted seconds to decode one frame."""
    per_pixel = DECODE_NS_PER_PIXEL.get(index.codec, OTHER_CODEC_NS_PER_PIXEL)
    return index.height * index.width * per_pixel * 1e-9
