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
    pixels = read_pixels(path)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[2] < 3:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, 0]), format="gray")
    else:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, :3]), format="rgb24")
    frame.color_range = 2  # full range: image samples use all values 0 to 255
    return frame


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of an image: uint8 or uint16, H×W×C with 1 (grey), 2, 3 or 4 (alpha) channels.

    Raises:
        UnreadableVideo: when the file is no image of 8 or 16 bits that imageio can read.
    """
    try:
        pixels = np.asarray(iio.imread(os.fspath(path)))
    except Exception as error:  # imageio's plugins raise whatever their libraries raise
        raise UnreadableVideo(path, f"no readable image ({error})") from error
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableVideo(path, f"images of {pixels.dtype} are not supported, only 8 or 16 bit")
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise UnreadableVideo(path, f"expected a grey or colour image, got shape {pixels.shape}")
    return np.ascontiguousarray(pixels)
