"""Folders of images as videos: one image a frame."""

from __future__ import annotations

import os

import av
import imageio.v3 as iio
import numpy as np

from pvio.errors import UnreadableVideo


def read_image(path: str | os.PathLike[str]) -> av.VideoFrame:
    """One image as a frame: `gray` or `rgb24`, 8 bits (16-bit images keep their high byte).

    Raises:
        UnreadableVideo: when the file is no image that imageio can read.
    """
    try:
        pixels = np.asarray(iio.imread(os.fspath(path)))
    except Exception as error:  # imageio's plugins raise whatever their libraries raise
        raise UnreadableVideo(path, f"no readable image ({error})") from error
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype != np.uint8:
        raise UnreadableVideo(path, f"images of {pixels.dtype} are not supported, only 8 or 16 bit")
    if pixels.ndim == 3 and pixels.shape[2] in (1, 2):
        pixels = pixels[:, :, 0]
    if pixels.ndim == 2:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray")
    elif pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, :3]), format="rgb24")
    else:
        raise UnreadableVideo(path, f"expected a grey or colour image, got shape {pixels.shape}")
    frame.color_range = 2  # full range: image samples use all values 0 to 255
    return frame
