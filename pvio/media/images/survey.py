"""Survey image files: pages, sizes and times, from headers alone.

A few 16-bit images are decoded, to find how many bits they use.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pvio.concurrency.timeout import report_progress
from pvio.errors import UnreadableVideo
from pvio.media.images.files import ImageFile, opened_image, read_pixels
from pvio.media.images.pillow import is_readable_size

# 16-bit images looked at for the bits that they use.
_SAMPLES = 5
# Bits of cameras. With fewer than 16 in use, frames are darker than they need be.
_DEPTHS = (8, 10, 12, 14)


@dataclass(frozen=True)
class ImageSurvey:
    """The pages of the images of one video, in order.

    Attributes:
        pages: number of pages of each file, at least 1; also of files that cannot be read.
        starts: numbers of the pages at which decoding can start.
        height, width: the size that most pages have.
        other_sizes: (height, width) of other pages.
        is_gray: whether all pages have luma alone.
        durations: milliseconds that each page is shown, of a single animated file; else empty.
        warning: about images that can be read; mostly "".
        damage: what is wrong with files as a whole, the first of them named; mostly "".
    """

    pages: tuple[int, ...]
    starts: tuple[int, ...]
    height: int
    width: int
    other_sizes: tuple[tuple[int, int], ...]
    is_gray: bool
    durations: tuple[int, ...]
    warning: str
    damage: str

    @property
    def n_frames(self) -> int:
        """Number of pages of all files."""
        return sum(self.pages)

    @property
    def rate(self) -> Fraction | None:
        """Average frames per second of an animated file; None for others."""
        if not self.durations:
            return None
        return Fraction(1000 * len(self.durations), sum(self.durations))


@dataclass(frozen=True)
class _Header:
    sizes: Sequence[tuple[int, int]]
    is_gray: bool
    is_sequential: bool
    bit_depth: int
    durations: Sequence[int]
    note: str
    damage: str


def survey_images(path: str, files: Sequence[str]) -> ImageSurvey:
    """Look at the headers of all images of a video.

    Args:
        path: of the video, for errors.
        files: its images, at least one.

    Raises:
        UnreadableVideo: when none of them can be read.
    """
    headers: list[_Header | None] = []
    first_error: UnreadableVideo | None = None
    for file in files:
        report_progress()
        try:
            with opened_image(file) as image:
                headers.append(_header_of(image))
        except UnreadableVideo as error:
            headers.append(None)
            first_error = first_error or error
    known = [header for header in headers if header is not None]
    if not known:
        assert first_error is not None
        reason = first_error.reason
        if len(files) > 1:
            reason = f"none of its {len(files)} images can be read; the first: {reason}"
        raise UnreadableVideo(path, reason)
    sizes = Counter(size for header in known for size in header.sizes if is_readable_size(*size))
    if not sizes:
        height, width = known[0].sizes[0]
        raise UnreadableVideo(path, f"no readable image: it is of {width}×{height} pixels")
    usual = height, width = max(sizes, key=lambda size: (sizes[size], size[0] * size[1]))
    n_scaled = sizes.total() - sizes[usual]
    return ImageSurvey(
        pages=tuple(len(header.sizes) if header else 1 for header in headers),
        starts=tuple(_starts(headers)),
        height=height,
        width=width,
        other_sizes=tuple(size for size in sizes if size != usual),
        is_gray=all(header.is_gray for header in known),
        durations=tuple(known[0].durations) if len(files) == 1 else (),
        warning="; ".join(filter(None, _warnings(files, headers, n_scaled, usual))),
        damage=_damage(files, headers),
    )


def _header_of(image: ImageFile) -> _Header:
    return _Header(
        image.sizes,
        image.is_gray,
        image.is_sequential,
        image.bit_depth,
        image.durations,
        image.note,
        image.damage,
    )


def _damage(files: Sequence[str], headers: Sequence[_Header | None]) -> str:
    found = [
        (file, header.damage)
        for file, header in zip(files, headers, strict=True)
        if header and header.damage
    ]
    if not found:
        return ""
    if len(files) == 1:
        return found[0][1]
    file, damage = found[0]
    more = f" (and of {len(found) - 1} more images)" if len(found) > 1 else ""
    return f"{os.path.basename(file)}: {damage}{more}"


def _starts(headers: Sequence[_Header | None]) -> list[int]:
    starts: list[int] = []
    n = 0
    for header in headers:
        n_pages = len(header.sizes) if header else 1
        starts += [n] if header and header.is_sequential else range(n, n + n_pages)
        n += n_pages
    return starts


def _warnings(
    files: Sequence[str],
    headers: Sequence[_Header | None],
    n_scaled: int,
    size: tuple[int, int],
) -> list[str]:
    known = [header for header in headers if header is not None]
    notes = sorted({header.note for header in known if header.note})
    if n_scaled:
        n = sum(len(header.sizes) for header in known)
        notes.append(
            f"{n_scaled} of {n} images have another size than most, {size[1]}×{size[0]}, and are "
            "scaled to it"
        )
    deep = [
        (file, len(header.sizes))
        for file, header in zip(files, headers, strict=True)
        if header and header.bit_depth == 16
    ]
    return [*notes, _unused_bits(deep)]


def _unused_bits(deep: Sequence[tuple[str, int]]) -> str:
    """A warning when 16-bit images use few of their bits, as those of 12-bit cameras."""
    if not deep:
        return ""
    ends = np.cumsum([n_pages for _, n_pages in deep])
    chosen = np.unique(np.linspace(0, ends[-1] - 1, _SAMPLES).astype(int))
    largest = 0
    for number in chosen:
        at = int(np.searchsorted(ends, number, side="right"))
        file, n_pages = deep[at]
        try:
            pixels = read_pixels(file, int(number - (ends[at] - n_pages)))
        except UnreadableVideo:
            continue
        if pixels.dtype == np.uint8:  # the high byte of colors
            pixels = (pixels[:, :, :3].astype(np.uint16) << 8) | 0xFF if pixels.any() else pixels
        largest = max(largest, int(pixels[:, :, :3].max()))
    bits = next((depth for depth in _DEPTHS if 0 < largest < 1 << depth), 16)
    if bits == 16:
        return ""
    return (
        f"16-bit images use {bits} bits at most (largest value seen: {largest}), and frames have "
        f"the high byte of the 16, so they are dark; multiply the images by {1 << (16 - bits)} "
        "for the full range"
    )
