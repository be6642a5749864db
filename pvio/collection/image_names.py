"""Names of images: their endings, sequences, and the order of the frames of a sequence."""

from __future__ import annotations

import fnmatch
import glob
import os
import re

from pvio.errors import CollectionError

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
        *(".pgm", ".ppm", ".pnm", ".pbm"),
    }
)
# FFmpeg's and C's way to write numbered files: %d, %05d.
_PRINTF = re.compile(r"%(0\d+)?d")


def is_image_name(name: str | os.PathLike[str]) -> bool:
    """Whether a file of this name counts as an image: by its ending, and it is not hidden."""
    base = os.path.basename(os.fspath(name))
    return os.path.splitext(base)[1].lower() in IMAGE_SUFFIXES and not base.startswith(".")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Key that sorts names by the numbers in them: `2.png` before `10.png`.

    Runs of the digits 0 to 9 are compared as whole numbers, all else as text. A sign or a decimal
    point is text. Names of equal numbers (`1.png`, `01.png`) are sorted as text.
    """
    pieces: list[str | int] = list(re.split(r"([0-9]+)", name))
    pieces[1::2] = [int(piece) for piece in pieces[1::2]]
    return pieces, name


def image_files(source: str | os.PathLike[str]) -> list[str]:
    """The image files of a source, in the order of the frames: natural order of their names.

    Args:
        source: a folder of images; a pattern of images in one folder, see `is_sequence`; or a file.

    Raises:
        OSError: when the folder cannot be listed.
    """
    source = os.fspath(source)
    folder, wanted = source, None
    if not os.path.isdir(source):
        if not is_sequence(source):
            return [source]
        folder, pattern = os.path.split(source)
        wanted = _name_pattern(pattern)
    with os.scandir(folder or os.curdir) as entries:
        names = [
            entry.name
            for entry in entries
            if is_image_name(entry.name)
            and (wanted is None or wanted.match(entry.name))
            and not entry.is_dir()
        ]
    return [os.path.join(folder, name) for name in sorted(names, key=natural_key)]


def is_sequence(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a pattern of images in one folder: `frames/*.png`, `frames/%05d.png`.

    A file that is really called so is no pattern.
    """
    folder = os.path.dirname(os.fspath(source))
    return (
        asks_for_images(os.fspath(source))
        and not os.path.exists(source)
        and os.path.isdir(folder or os.curdir)
    )


def asks_for_images(entry: str) -> bool:
    """Whether a pattern, `*` or `%d` in its last part, asks for images by their ending."""
    name = os.path.basename(entry)
    has_pattern = glob.has_magic(name) or _PRINTF.search(name) is not None
    return has_pattern and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def videos_of_folder(folder: str, pattern: str) -> list[tuple[str, bool]]:
    """The videos that a pattern of image names means in a folder.

    The images are one sequence: the folder where the pattern matches all of them, else the pattern.
    Files of several pages are videos of their own; the first file decides.

    Args:
        folder: where to look; "" is the working folder.
        pattern: of names, such as `*.png` or `%05d.png`.

    Returns:
        Paths, and whether each is a sequence; nothing where no image matches.

    Raises:
        CollectionError: when the folder cannot be listed.
    """
    sequence = os.path.join(folder, pattern)
    try:
        files = image_files(sequence) if os.path.isdir(folder or os.curdir) else []
        if not files:
            return []
        if _has_pages(files[0]):
            return [(file, False) for file in files]
        is_whole = len(files) == len(image_files(folder or os.curdir))
    except OSError as error:
        raise CollectionError(
            f"videos: the folder {folder!r} cannot be listed: {error.strerror or error}"
        ) from error
    return [(folder or os.curdir, True) if is_whole else (sequence, True)]


def _has_pages(file: str) -> bool:
    """Whether an image file has several pages; False where it cannot be read."""
    try:
        if os.path.splitext(file)[1].lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(file) as tiff:
                metadata = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
                return metadata.get("images", 1) > 1 or tiff.pages.is_multipage
        from PIL import Image

        with Image.open(file, formats=("GIF", "PNG", "WEBP")) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # it is reported when it is indexed
        return False


def sequence_name(pattern: str) -> str:
    """The name of a sequence's results: its path without what stands for the numbers.

    `run/cam1_%05d.png` gives `run/cam1`, and `run/*.png` gives `run`.
    """
    folder, name = os.path.split(pattern)
    stem = _PRINTF.sub("", os.path.splitext(name)[0])
    stem = re.sub(r"\[[^]]*\]|[*?]", "", stem).strip("._- ")
    return os.path.join(folder, stem) if stem else folder


def _name_pattern(pattern: str) -> re.Pattern[str]:
    """Regular expression of the names that a pattern of a sequence means."""
    if not _PRINTF.search(pattern):
        return re.compile(fnmatch.translate(pattern))
    parts, last = [], 0
    for match in _PRINTF.finditer(pattern):
        width = int(match[1] or 0)
        # Numbers of more digits than the width are not padded.
        digits = rf"(?:[0-9]{{{width}}}|[1-9][0-9]{{{width},}})" if width else r"(?:0|[1-9][0-9]*)"
        parts += [re.escape(pattern[last : match.start()]), digits]
        last = match.end()
    return re.compile("".join(parts) + re.escape(pattern[last:]) + r"\Z")
