"""TIFF files and stacks, of Fiji and OME too: each page is a frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile

from pvio.errors import UnreadableVideo
from pvio.media.orientation import Orientation, of_exif
from pvio.media.pillow_image import PillowImage, check_size, unsupported

_ORIENTATION = 274
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE = 0, 1, 2, 3
# None, deflate (two numbers) and PackBits: what tifffile decodes by itself. Pillow has libtiff.
_COMPRESSIONS = (1, 8, 32946, 32773)
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a TIFF or BigTIFF."""
    with open(path, "rb") as file:
        return file.read(4) in _MAGIC


class TiffImage:
    """An open TIFF file; attributes and methods are those of `PillowImage`.

    Pages that are smaller copies of others, or masks, are no frames. ImageJ writes stacks of more
    than 4 GB with one page that describes all: their planes are pages here.
    """

    durations: list[int] = []  # noqa: RUF012
    is_sequential = False

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path
        self._size = os.stat(path).st_size
        self._pillow: PillowImage | None = None
        with self._named_errors():
            self._file = tifffile.TiffFile(path)
        try:
            with self._named_errors():
                self._describe()
        except BaseException:
            self._file.close()
            raise

    def _describe(self) -> None:
        pages = list(_without_copies(self._file.pages))
        self._numbers = [number for number, _ in pages]
        first = pages[0][1]
        self._n_planes = self._n_planes_of_imagej(first) if len(pages) == 1 else 1
        self.sizes = [_upright_size(page) for _, page in pages] * self._n_planes
        self.is_gray = first.photometric in (_MINISWHITE, _MINISBLACK) and _n_samples(first) < 3
        self.bit_depth = _bits(first)
        self.note = self._axes()

    def read(self, page: int) -> np.ndarray:
        """See `PillowImage.read`."""
        with self._named_errors():
            number = self._numbers[0 if self._n_planes > 1 else page]
            found: Any = self._file.pages[number]
            check_size(self._path, found.imagelength, found.imagewidth)
            if found.dtype is None or found.dtype.kind not in "ub" or found.dtype.itemsize > 2:
                raise unsupported(self._path, str(found.dtype or "unknown"))
            if not _is_simple(found):
                return self._by_pillow(number, found)
            if self._n_planes > 1:
                pixels = self._plane(found, page)
            else:
                self._check_complete(found)
                pixels = found.asarray()
            pixels = _as_image(pixels, found)
            return np.ascontiguousarray(_orientation(found).apply(pixels))

    def close(self) -> None:
        self._file.close()
        if self._pillow is not None:
            self._pillow.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnreadableVideo:
            raise
        except Exception as error:  # tifffile raises whatever a damaged file leads to
            raise UnreadableVideo(self._path, f"no readable image ({error})") from error

    def _by_pillow(self, number: int, page: Any) -> np.ndarray:
        if self._pillow is None:
            self._pillow = PillowImage(self._path)
        pixels = self._pillow.read(number)
        return pixels << 4 if _bits(page) == 12 and pixels.dtype == np.uint16 else pixels

    def _n_planes_of_imagej(self, page: Any) -> int:
        metadata = (self._file.imagej_metadata or {}) if self._file.is_imagej else {}
        n = metadata.get("images", 1)
        if not isinstance(n, int) or n < 2 or not page.is_contiguous or not page.nbytes:
            return 1
        return max(1, min(n, (self._size - page.dataoffsets[0]) // page.nbytes))

    def _plane(self, page: Any, number: int) -> np.ndarray:
        dtype = np.dtype(page.dtype).newbyteorder(self._file.byteorder)
        offset = page.dataoffsets[0] + number * page.nbytes
        count = page.nbytes // dtype.itemsize
        pixels = np.fromfile(self._path, dtype, count, offset=offset)
        return pixels.reshape(page.shape).astype(page.dtype)

    def _check_complete(self, page: Any) -> None:
        """tifffile fills what is missing with zeros."""
        ends = (
            offset + count
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
        stored = sum(page.databytecounts)
        if max(ends, default=0) > self._size or (page.compression == 1 and stored < page.nbytes):
            raise UnreadableVideo(self._path, "no readable image: the file is truncated")

    def _axes(self) -> str:
        """A remark on stacks of more than one axis, whose planes all become frames."""
        if not self._file.is_imagej:
            return ""
        metadata = self._file.imagej_metadata or {}
        axes = [(name, metadata.get(name, 1)) for name in ("channels", "slices", "frames")]
        found = [f"{n} {name}" for name, n in axes if isinstance(n, int) and n > 1]
        if len(found) < 2:
            return ""
        return f"a stack of {' × '.join(found)}: each plane is a row, in the order of the file"


def _without_copies(pages: Any) -> Iterator[tuple[int, Any]]:
    """Pages and their numbers, without smaller copies and masks."""
    kept = [
        (number, page) for number, page in enumerate(pages) if not (int(page.subfiletype) & 0b101)
    ]
    yield from kept or [(0, pages[0])]


def _upright_size(page: Any) -> tuple[int, int]:
    return _orientation(page).upright_size(page.imagelength, page.imagewidth)


def _orientation(page: Any) -> Orientation:
    tag = page.tags.get(_ORIENTATION)
    return of_exif(int(tag.value)) if tag is not None and tag.count == 1 else Orientation()


def _n_samples(page: Any) -> int:
    return int(page.samplesperpixel)


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else bits[0])


def _is_simple(page: Any) -> bool:
    """Whether tifffile gives the samples as they are, of 8 or 16 bits."""
    return (
        page.photometric in (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE)
        and page.compression in _COMPRESSIONS
        and _bits(page) in (8, 16)
        and page.dtype in (np.uint8, np.uint16)
        and page.axes in ("YX", "YXS", "SYX")
    )


def _as_image(pixels: np.ndarray, page: Any) -> np.ndarray:
    """H×W×C of the samples of a page."""
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, 2)
    if page.photometric == _PALETTE:
        colors = np.asarray(page.colormap)
        # Of 16 bits; some programs write 8.
        colors = (colors >> 8 if colors.max() > 255 else colors).astype(np.uint8)
        return colors[:, pixels].transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if page.photometric == _MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.shape[2] > 4:
        reason = f"expected a gray or color image, got {pixels.shape[2]} samples a pixel"
        raise UnreadableVideo(page.parent.filename, f"no readable image: {reason}")
    return pixels
