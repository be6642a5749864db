"""Image files as frames: each is decoded by a fixed decoder, by its content and not by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np

from pvio.errors import UnreadableVideo
from pvio.media.images.pillow import PillowImage
from pvio.media.images.tiff import TiffImage, is_tiff

ImageFile = PillowImage | TiffImage


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image file, to be closed by the caller.

    No file that an image refers to is opened, and a video or a list of files that is called like
    an image is refused.

    Raises:
        UnreadableVideo: when the file is no image.
    """
    try:
        return TiffImage(path) if is_tiff(path) else PillowImage(path)
    except OSError as error:
        raise UnreadableVideo(path, f"no readable image ({error.strerror or error})") from error


@contextmanager
def opened_image(path: str | os.PathLike[str]) -> Iterator[ImageFile]:
    """`open_image`, closed at the end."""
    image = open_image(path)
    try:
        yield image
    finally:
        image.close()


def read_pixels(path: str | os.PathLike[str], page: int | None = None) -> np.ndarray:
    """The pixels of one page of an image file, upright.

    Args:
        path: of the file.
        page: its number; None for the only one.

    Returns:
        uint8 or uint16, H×W×C with 1 (gray), 2, 3 or 4 (alpha) channels.

    Raises:
        UnreadableVideo: when the file is no image of 8 or 16 bits that can be read, or has several
            pages and none is named.
    """
    with opened_image(path) as image:
        if page is None and len(image.sizes) > 1:
            raise UnreadableVideo(
                path,
                f"it has {len(image.sizes)} pages where one image is expected; give the file "
                "itself as a video (in the loader without `as_image_dirs`) to read them all",
            )
        return image.read(page or 0)


def to_frame(pixels: np.ndarray) -> av.VideoFrame:
    """Pixels as a frame: `gray` or `rgb24`, 8 bits (16-bit samples keep their high byte).

    Args:
        pixels: uint8 or uint16, H×W×C; alpha is left out.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.shape[2] < 3:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, 0]), format="gray")
    else:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:, :, :3]), format="rgb24")
    frame.color_range = 2  # full range: image samples use all values 0 to 255
    return frame
