"""TIFF files and stacks, of Fiji and OME too: each page is a frame."""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile

from pvio.errors import UnreadableVideo
from pvio.media.images.pillow import (
    MOST_PIXELS,
    PillowImage,
    check_size,
    unsupported,
    upright,
)
from pvio.media.pixels.orientation import Orientation, orientation_from_exif

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

    Pages that are smaller copies of others, or masks, are not frames. ImageJ writes stacks of more
    than 4 GB with one page that describes all: their planes are pages here.
    """

    durations: tuple[int, ...] = ()
    is_sequential = False

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path
        self._size = os.stat(path).st_size
        self._pillow: PillowImage | None = None
        self.damage = ""
        with self._named_errors():
            heads, is_whole = _list_pages(path, self._size)
            if not is_whole:
                self.damage = "its list of pages breaks off: pages that followed are lost"
            self._file = tifffile.TiffFile(path)
        try:
            with self._named_errors():
                self._describe(heads)
        except BaseException:
            self._file.close()
            raise

    def _describe(self, heads: Sequence[_PageHead]) -> None:
        kept = [number for number, head in enumerate(heads) if not head.is_copy] or [0]
        self._numbers = kept
        self._orientations = [heads[number].orientation for number in kept]
        first: Any = self._file.pages[kept[0]]
        self._check_type(first)
        self._n_planes = self._n_planes_of_imagej(first) if len(kept) == 1 else 1
        self.sizes = [heads[number].upright_size for number in kept] * self._n_planes
        self.is_gray = first.photometric in (_MINISWHITE, _MINISBLACK) and _n_samples(first) < 3
        self.bit_depth = _bits(first)
        self.note = self._axes()

    def read(self, page: int) -> np.ndarray:
        """See `PillowImage.read`."""
        with self._named_errors():
            at = 0 if self._n_planes > 1 else page
            number = self._numbers[at]
            found: Any = self._file.pages[number]
            check_size(self._path, found.imagelength, found.imagewidth)
            self._check_type(found)
            if not _is_simple(found):
                return self._by_pillow(number, found)
            if self._n_planes > 1:
                pixels = self._plane(found, page)
            else:
                self._check_complete(found)
                pixels = found.asarray()
            pixels = _as_image(pixels, found)
            return upright(self._path, pixels, self._orientations[at])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._pillow is not None:
            self._pillow.close()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnreadableVideo:
            raise
        except Exception as error:  # tifffile raises errors of any type for damaged files
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
        return int(max(1, min(n, (self._size - page.dataoffsets[0]) // page.nbytes)))

    def _plane(self, page: Any, number: int) -> np.ndarray:
        dtype = np.dtype(page.dtype).newbyteorder(self._file.byteorder)
        offset = page.dataoffsets[0] + number * page.nbytes
        count = page.nbytes // dtype.itemsize
        pixels = np.fromfile(self._path, dtype, count, offset=offset)
        return pixels.reshape(page.shape).astype(page.dtype)

    def _check_type(self, page: Any) -> None:
        if page.dtype is None or page.dtype.kind not in "ub" or page.dtype.itemsize > 2:
            raise unsupported(self._path, str(page.dtype or "unknown"))
        if _n_samples(page) > 4:
            reason = f"expected a gray or color image, got {_n_samples(page)} samples per pixel"
            raise UnreadableVideo(self._path, f"no readable image: {reason}")

    def _check_complete(self, page: Any) -> None:
        """Check that all pixels are in the file: tifffile would fill missing ones with zeros."""
        ends = (
            offset + count
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
        stored = sum(page.databytecounts)
        n_pieces, piece = math.prod(page.chunked), math.prod(page.chunks)
        if n_pieces > self._size or piece > 4 * MOST_PIXELS:
            raise UnreadableVideo(
                self._path, "no readable image: its strips or tiles do not fit it"
            )
        if max(ends, default=0) > self._size or (page.compression == 1 and stored < page.nbytes):
            raise UnreadableVideo(self._path, "no readable image: the file is truncated")

    def _axes(self) -> str:
        """A warning about stacks of more than one axis, whose planes all become frames."""
        if not self._file.is_imagej:
            return ""
        metadata = self._file.imagej_metadata or {}
        axes = [(name, metadata.get(name, 1)) for name in ("channels", "slices", "frames")]
        found = [f"{n} {name}" for name, n in axes if isinstance(n, int) and n > 1]
        if len(found) < 2:
            return ""
        return f"a stack of {' × '.join(found)}: each plane is a row, in the order of the file"


class _PageHead(NamedTuple):
    """The tags of a page that a survey needs; tifffile takes a millisecond to read all."""

    height: int
    width: int
    orientation: Orientation
    is_copy: bool  # smaller copy, or mask

    @property
    def upright_size(self) -> tuple[int, int]:
        return self.orientation.upright_size(self.height, self.width)


def _list_pages(path: str | os.PathLike[str], size: int) -> tuple[list[_PageHead], bool]:
    """The pages of a TIFF, and whether their list is complete.

    tifffile would follow some lists in circles, and those whose pages overlap for too long.

    Raises:
        UnreadableVideo: for such a list, and if there is no page.
    """
    pages: list[_PageHead] = []
    seen: set[int] = set()
    n_bytes = 0
    with open(path, "rb") as file:
        layout = _Layout.of(file.read(16))
        offset = layout.first
        while offset:
            if offset in seen or n_bytes > size:
                raise UnreadableVideo(path, "no readable image: its list of pages has no end")
            seen.add(offset)
            try:
                file.seek(offset)
                (n_tags,) = layout.n_tags.unpack(file.read(layout.n_tags.size))
                tags = file.read(n_tags * layout.tag.size)
                (offset,) = layout.offset.unpack(file.read(layout.offset.size))
            except (struct.error, OSError, OverflowError, ValueError):
                break
            pages.append(_page_head(tags, layout))
            n_bytes += len(tags)
    if not pages:
        raise UnreadableVideo(path, "no readable image: it has no page, or lost them")
    return pages, len(pages) == len(seen)


class _Layout(NamedTuple):
    """The storage of numbers in a TIFF or a BigTIFF (TIFF 6.0, section 2)."""

    first: int
    order: str
    n_tags: struct.Struct
    tag: struct.Struct  # number, type, count, value
    offset: struct.Struct

    @classmethod
    def of(cls, head: bytes) -> _Layout:
        order = "<" if head[:2] == b"II" else ">"
        is_big = head[2:4] in (b"+\0", b"\0+")
        count, number, at = ("Q", "Q", 8) if is_big else ("H", "I", 4)
        (first,) = struct.unpack_from(order + number, head, at)
        tag = struct.Struct(f"{order}HH{number}{8 if is_big else 4}s")
        return cls(first, order, struct.Struct(order + count), tag, struct.Struct(order + number))


# Types of numbers: BYTE, SHORT, LONG, LONG8.
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _page_head(tags: bytes, layout: _Layout) -> _PageHead:
    values = {
        number: struct.unpack_from(layout.order + _INTEGERS[kind], value)[0]
        for number, kind, count, value in layout.tag.iter_unpack(tags)
        if number in (254, 256, 257, _ORIENTATION) and count == 1 and kind in _INTEGERS
    }
    return _PageHead(
        height=values.get(257, 0),
        width=values.get(256, 0),
        orientation=orientation_from_exif(values.get(_ORIENTATION)),
        is_copy=bool(values.get(254, 0) & 0b101),
    )


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
    return pixels
