"""Image files that Pillow reads: JPEG, PNG, WebP, GIF, BMP, PNM; their pages, sizes and times."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from pvio.errors import UnreadableVideo
from pvio.media.images.jpeg_damage import data_damage
from pvio.media.images.jpeg_segments import append_end_marker, lacks_end_marker, strip_jpeg_extras
from pvio.media.images.png_chunks import strip_png_extras
from pvio.media.pixels.orientation import Orientation, orientation_from_exif

# An image of more pixels is refused: a file of a few kB could take all memory. Pillow's own limit,
# which is only a warning there.
MOST_PIXELS = 1024**3 // 4 // 3
# libavutil/imgutils.c, av_image_check_size2.
_MOST_PADDED = (2**31 - 1) // 8
_LIMIT = f"at most {MOST_PIXELS:,} are read"
# Formats by content, whatever the file is called. Each has a decoder of its own.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF")
# Fewest bytes of a page of an animation; more pages than fit the file are ignored. Of GIF a
# descriptor, the size of codes and an empty list of blocks, of PNG an fcTL, of WebP an ANMF chunk.
_LEAST_PAGE = {"GIF": 12, "PNG": 38, "WEBP": 24}
# Milliseconds of a page that states none, as in players; 10 ms in GIF count as none as well.
_DEFAULT_DURATION = 100


class PillowImage:
    """An open image file.

    Args:
        path: of the file.

    Attributes:
        sizes: (height, width) of each page, upright.
        is_gray: whether pages have luma alone.
        durations: milliseconds that each page is shown; empty if the file is no animation.
        is_sequential: whether a page builds on those before it.
        bit_depth: bits of a sample in the file.
        note: a warning about the file; mostly "".
        damage: what is wrong with the file as a whole; mostly "".

    Raises:
        UnreadableVideo: when it is no image, or too large a one.
    """

    note = ""
    damage = ""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = path
        self._first = 0
        with self._named_errors():
            self._image, self._is_repaired = _opened(path)
        with contextlib.ExitStack() as stack:
            stack.callback(self._image.close)
            self._describe()
            stack.pop_all()

    def _describe(self) -> None:
        image = self._image
        check_size(self._path, image.height, image.width)
        _check_type(self._path, image)
        self._orientation = self._stated_orientation()
        self.durations = self._stated_durations() if image.format in _LEAST_PAGE else ()
        self.is_sequential = len(self.durations) > 1
        if not self.is_sequential:
            self.durations = ()
        # A still image before an animation, for programs without APNG support.
        self._first = int(self.is_sequential and getattr(image, "default_image", False))
        self.is_gray = image.format != "GIF" and image.mode in _GRAY_MODES
        raw_mode = str(image.tile[0][3]) if image.tile else ""
        self.bit_depth = 16 if image.mode.startswith("I;16") or ";16B" in raw_mode else 8
        if image.format == "PPM" and _has_second_pnm(self._path, image):
            self.note = "images after the first are left out: a PNM file has one row"
        size = self._orientation.upright_size(image.height, image.width)
        self.sizes = [size] * max(1, len(self.durations))

    def read(self, page: int) -> np.ndarray:
        """The pixels of a page, upright: uint8 or uint16, H×W×C, C as `pixels_of`.

        Raises:
            UnreadableVideo: when it is damaged, or of a type that has no 8 or 16 bits.
        """
        with self._named_errors():
            try:
                self._load(page)
            except Exception:  # data after the pixels may be damaged
                if self._is_repaired or (repaired := _repaired(self._path)) is None:
                    raise
                self._image.close()
                self._image, self._is_repaired = repaired, True
                self._load(page)
            _check_type(self._path, self._image)
            pixels = pixels_of(self._image)
        return upright(self._path, pixels, self._orientation)

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def _load(self, page: int) -> None:
        if page or self._first:
            self._image.seek(page + self._first)
        self._image.load()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except UnreadableVideo:
            raise
        except UnidentifiedImageError:
            reason = "no readable image: its content is of no known image format"
            raise UnreadableVideo(self._path, reason) from None
        except Image.DecompressionBombError:
            raise UnreadableVideo(self._path, f"an image of too many pixels; {_LIMIT}") from None
        except Exception as error:  # Pillow's plugins raise errors of any type
            raise UnreadableVideo(self._path, f"no readable image ({error})") from error

    def _stated_orientation(self) -> Orientation:
        if self._image.format == "TIFF":
            return Orientation()  # Pillow turns these itself
        try:
            if self._image.format == "PNG" and "exif" not in self._image.info:
                exif = Image.Exif()  # Pillow would decode the image to look after its pixels
                with open(self._path, "rb") as file:
                    for kind, chunk in _chunks(file, 8, ">", {b"eXIf"}):
                        if kind == b"eXIf":
                            exif.load(chunk)
            else:
                exif = self._image.getexif()
            return orientation_from_exif(exif.get(0x0112))
        except Exception:  # damaged EXIF
            return Orientation()

    def _stated_durations(self) -> tuple[int, ...]:
        with self._named_errors(), open(self._path, "rb") as file:
            form = str(self._image.format)
            most = os.fstat(file.fileno()).st_size // _LEAST_PAGE[form]
            durations = _DURATIONS[form](file)
            if len(durations) > most:
                self.damage = (
                    f"it claims {len(durations)} pages, and its size has room for {most}: "
                    "the others are left out"
                )
            return tuple(duration or _DEFAULT_DURATION for duration in durations[:most])


def _opened(path: str | os.PathLike[str]) -> tuple[ImageFile.ImageFile, bool]:
    """An image, and whether it had to be repaired to open it."""
    try:
        return Image.open(path, formats=_FORMATS), False
    except Image.DecompressionBombError:
        raise
    except Exception:  # not only what is damaged: Pillow has limits for text as well
        if (repaired := _repaired(path)) is None:
            raise
        return repaired, True


def _repaired(path: str | os.PathLike[str]) -> ImageFile.ImageFile | None:
    """A PNG or JPEG file without the side information that Pillow can refuse it for.

    A JPEG file that lacks its end marker alone gets one.

    Returns:
        None if there is nothing to be repaired.
    """
    with open(path, "rb") as file:
        start = file.read(2)
        if start not in (b"\xff\xd8", b"\x89P"):
            return None
        data = start + file.read()
    repaired = strip_jpeg_extras(strip_png_extras(data))
    if lacks_end_marker(repaired) and not data_damage(repaired):
        repaired = append_end_marker(repaired)
    return Image.open(io.BytesIO(repaired), formats=_FORMATS) if repaired != data else None


def _has_second_pnm(path: str | os.PathLike[str], image: ImageFile.ImageFile) -> bool:
    """Whether another image follows in a binary PNM file (netpbm: "zero or more images")."""
    with open(path, "rb") as file:
        kind = file.read(2)
        if kind == b"P4":
            row = (image.width + 7) // 8
        elif kind in (b"P5", b"P6"):
            arguments = image.tile[0][3]
            is_deep = "16" in str(arguments) or (
                isinstance(arguments, tuple) and int(arguments[1]) > 255
            )
            row = image.width * (3 if kind == b"P6" else 1) * (2 if is_deep else 1)
        else:
            return False
        file.seek(image.tile[0][2] + row * image.height)
        start = file.read(64).lstrip()
    return start[:2] in (b"P4", b"P5", b"P6") and start[2:3].isspace()


def is_readable_size(height: int, width: int) -> bool:
    """Whether an image has pixels, and neither too many nor a side that FFmpeg has no frames of."""
    is_limited = height * width <= MOST_PIXELS and (height + 128) * (width + 128) < _MOST_PADDED
    return height > 0 and width > 0 and is_limited


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Refuse an image of no or too many pixels.

    Raises:
        UnreadableVideo: naming its size and the limit.
    """
    if not is_readable_size(height, width):
        raise UnreadableVideo(path, f"an image of {width}×{height} pixels; {_LIMIT}")


def upright(
    path: str | os.PathLike[str], pixels: np.ndarray, orientation: Orientation
) -> np.ndarray:
    """Pixels turned, in an array of their own.

    Raises:
        UnreadableVideo: when they are no H×W×C, as of damaged files.
    """
    if pixels.ndim != 3 or not pixels.size or pixels.shape[2] > 4:
        reason = f"expected a gray or color image, got shape {pixels.shape}"
        raise UnreadableVideo(path, f"no readable image: {reason}")
    return np.ascontiguousarray(orientation.apply(pixels))


_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")


def pixels_of(image: Image.Image) -> np.ndarray:
    """The pixels of a loaded image: H×W×C with 1 (gray), 2 (with alpha), 3 or 4 (alpha) channels.

    uint8, or uint16 for 16 bits of gray. Color of 16 bits has its high byte. CMYK and palettes
    become RGB; color profiles are not applied.
    """
    mode = image.mode
    if image.format == "GIF" or mode in ("P", "PA"):
        # By way of RGBA: Pillow has a warning for palettes with transparency otherwise.
        image = image.convert("RGBA").convert("RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode.startswith("I"):  # "I" of PGM alone, which Pillow scales to 16 bits
        return np.asarray(image).astype(np.uint16)[:, :, np.newaxis]
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def _check_type(path: str | os.PathLike[str], image: Image.Image) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise unsupported(path, "float32" if image.mode == "F" else "int32")


def unsupported(path: str | os.PathLike[str], kind: str) -> UnreadableVideo:
    """The error for samples of a type whose range no file states."""
    return UnreadableVideo(
        path,
        f"no readable image: {kind} samples are not supported, since no range is stated; save it "
        "with 8 or 16 bits (Fiji: Image > Type > 16-bit)",
    )


def _gif_durations(file: BinaryIO) -> list[int]:
    """Milliseconds of each frame of a GIF, 0 for none (GIF89a specification, 20 and 23)."""
    file.seek(10)
    flags = file.read(3)[0]
    file.seek(_table_size(flags), os.SEEK_CUR)
    durations, delay = [], 0
    while (kind := file.read(1)) in (b"\x21", b"\x2c"):
        if kind == b"\x21":
            if file.read(1) == b"\xf9":
                block = file.read(file.read(1)[0])
                delay = struct.unpack_from("<H", block, 1)[0]
        else:
            descriptor = file.read(9)
            if len(descriptor) < 9:
                break
            file.seek(_table_size(descriptor[8]) + 1, os.SEEK_CUR)
            durations.append(delay * 10 if delay > 1 else 0)
            delay = 0
        while length := file.read(1) or b"\0":
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    return durations


def _table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _png_durations(file: BinaryIO) -> list[int]:
    """Milliseconds of each frame of an APNG, 0 for none; nothing for other PNGs (PNG 3, 11.3.6)."""
    durations = []
    is_animated = False
    for kind, chunk in _chunks(file, 8, ">", {b"acTL", b"fcTL"}):
        if kind == b"IDAT" and not is_animated:
            return []  # an animation is announced before the first pixels
        is_animated = is_animated or (kind == b"acTL" and len(chunk) >= 8)
        if kind == b"fcTL" and len(chunk) >= 26:
            numerator, denominator = struct.unpack_from(">HH", chunk, 20)
            durations.append(round(1000 * numerator / (denominator or 100)))
    return durations


def _webp_durations(file: BinaryIO) -> list[int]:
    """Milliseconds of each frame of an animated WebP, 0 for none (RFC 9649, 2.7.1.1)."""
    return [
        int.from_bytes(chunk[12:15], "little")
        for kind, chunk in _chunks(file, 12, "<", {b"ANMF"})
        if kind == b"ANMF"
    ]


_DURATIONS = {"GIF": _gif_durations, "PNG": _png_durations, "WEBP": _webp_durations}


def _chunks(
    file: BinaryIO, start: int, order: str, wanted: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks of a PNG (big-endian, with checksums) or a RIFF file.

    Only the first 64 KiB of those wanted are read; of the others there is no content.
    """
    file.seek(start)
    while len(head := file.read(8)) == 8:
        if order == ">":
            length, kind = struct.unpack(">I4s", head)
            following = file.tell() + length + 4
        else:
            kind, length = struct.unpack("<4sI", head)
            following = file.tell() + length + length % 2
        yield kind, file.read(min(length, 1 << 16)) if kind in wanted else b""
        file.seek(following)
