"""Images and folders of images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from formats import Case

HEIGHT, WIDTH = 16, 32
GRAYS = (20, 60, 100)
Maker = Callable[[Any, Path], None]


def _flat(gray: int, height: int = HEIGHT, width: int = WIDTH, dtype: Any = np.uint8) -> np.ndarray:
    return np.full((height, width), gray, dtype)


def _pages(dtype: Any = np.uint8) -> list[Image.Image]:
    return [Image.fromarray(_flat(gray, dtype=dtype)) for gray in GRAYS]


def _folder(ending: str, save: Callable[[Path, int], None], names: Sequence[str] = "012") -> Maker:
    """A maker of a folder, with an image of each gray."""

    def make(_ffmpeg: Any, path: Path) -> None:
        path.mkdir()
        for name, gray in zip(names, GRAYS, strict=True):
            save(path / f"{name}.{ending}", gray)

    return make


def _save_cmyk(path: Path, gray: int) -> None:
    ink = Image.fromarray(_flat(255 - gray))
    none = Image.fromarray(_flat(0))
    Image.merge("CMYK", [ink, ink, ink, none]).save(path, quality=100)


def _save_turned(path: Path, gray: int, orientation: int = 6, **options: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(_flat(gray)).save(path, exif=exif, **options)


def _save_by_pillow(path: Path, gray: int) -> None:
    Image.fromarray(_flat(gray)).save(path)


def _save_other_size(path: Path, gray: int) -> None:
    size = (8, 64) if gray == GRAYS[1] else (HEIGHT, WIDTH)
    Image.fromarray(_flat(gray, *size)).save(path)


def _save_mixed_orientation(path: Path, gray: int) -> None:
    if gray == GRAYS[1]:
        _save_turned(path, gray, 8)
    else:
        Image.fromarray(_flat(gray, WIDTH, HEIGHT)).save(path)


def _animation(**options: Any) -> Maker:
    def make(_ffmpeg: Any, path: Path) -> None:
        first, *others = _pages()
        first.save(path, save_all=True, append_images=others, duration=[40, 80, 120], **options)

    return make


def _apng_after_a_still(_ffmpeg: Any, path: Path) -> None:
    pages = _pages()
    still = Image.fromarray(_flat(250))
    still.save(path, save_all=True, append_images=pages, default_image=True, duration=[40, 80, 120])


def _tiff(pixels: Callable[[], np.ndarray], **options: Any) -> Maker:
    def make(_ffmpeg: Any, path: Path) -> None:
        tifffile.imwrite(path, pixels(), **options)

    return make


def _gray_stack(dtype: Any = np.uint8, unit: int = 1) -> np.ndarray:
    return np.stack([_flat(gray * unit, dtype=dtype) for gray in GRAYS])


def _stack_in_a_folder(_ffmpeg: Any, path: Path) -> None:
    path.mkdir()
    _save_by_pillow(path / "0.tif", 10)
    tifffile.imwrite(path / "1.tif", _gray_stack(), photometric="minisblack")
    _save_by_pillow(path / "2.tif", 200)


def _pyramid(_ffmpeg: Any, path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(_flat(60))
        writer.write(_flat(200, HEIGHT // 2, WIDTH // 2), subfiletype=1)


def _cut_stack(_ffmpeg: Any, path: Path) -> None:
    tifffile.imwrite(path, _gray_stack(), photometric="minisblack", contiguous=False)
    with tifffile.TiffFile(path) as file:
        last = file.pages[2].offset  # type: ignore[union-attr]
    path.write_bytes(path.read_bytes()[: last + 10])


def _endless_list_of_pages(_ffmpeg: Any, path: Path) -> None:
    tag = struct.pack("<HHII", 256, 3, 1, 5)
    pages = [struct.pack("<H", 1) + tag + struct.pack("<I", 8 + 18 * n) for n in (1, 2, 1)]
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(pages))


def _large_imagej(_ffmpeg: Any, path: Path) -> None:
    """A single page for three planes, as ImageJ writes stacks of more than 4 GB."""
    text = b"ImageJ=1.54f\nimages=3\nframes=3\n\0"
    planes = _gray_stack().tobytes()
    n_tags, at = 10, 8 + len(text)
    tags = [
        *((256, 3, 1, WIDTH), (257, 3, 1, HEIGHT), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
        *((270, 2, len(text), 8), (273, 4, 1, at + 6 + 12 * n_tags), (277, 3, 1, 1)),
        *((278, 3, 1, HEIGHT), (279, 4, 1, HEIGHT * WIDTH)),
    ]
    page = struct.pack("<H", n_tags) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", at) + text + page + bytes(4) + planes)


def _bomb(_ffmpeg: Any, path: Path) -> None:
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    Image.fromarray(_flat(1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:29] = header
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def _save_with_long_text(path: Path, gray: int) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("macro", "x" * 2_000_000, zip=True)
    Image.fromarray(_flat(gray)).save(path, pnginfo=info)


def _save_with_bad_segment(path: Path, gray: int) -> None:
    _save_by_pillow(path, gray)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1\xff\xff" + data[2:])


def _save_without_end(path: Path, gray: int) -> None:
    _save_by_pillow(path, gray)
    path.write_bytes(path.read_bytes()[:-2])


def _two_pnm(_ffmpeg: Any, path: Path) -> None:
    pages = [f"P5 {WIDTH} {HEIGHT} 255\n".encode() + _flat(gray).tobytes() for gray in (60, 200)]
    path.write_bytes(b"".join(pages))


def _video_called_png(ffmpeg: Any, path: Path) -> None:
    source = "color=black:size=64x48:rate=25"
    ffmpeg.run("-f", "lavfi", "-i", source, "-frames:v", "50", "-f", "mp4", path)


def _two_images(_ffmpeg: Any, path: Path) -> None:
    """A photo that is followed by a second one, as phones write them."""
    Image.fromarray(_flat(60)).save(
        path, format="MPO", save_all=True, append_images=[Image.fromarray(_flat(200, 8, 8))]
    )


def _timelapse(ffmpeg: Any, path: Path) -> None:
    folder = path.with_suffix(".frames")
    folder.mkdir()
    for number, gray in enumerate(GRAYS):
        _save_turned(folder / f"{number}.jpg", gray, quality=100)
    ffmpeg.run("-framerate", "25", "-i", folder / "%d.jpg", "-c", "copy", path)


def _mixed_contents(_ffmpeg: Any, path: Path) -> None:
    path.mkdir()
    for number, (gray, kind) in enumerate(zip(GRAYS, ("PNG", "BMP", "TIFF"), strict=True)):
        Image.fromarray(_flat(gray)).save(path / f"{number}.png", format=kind)
    (path / "Metadata.json").write_text("{}")
    (path / "._0.png").write_text("of another system")


def _single_exif(ending: str) -> Case:
    name = f"turned.{ending}"
    return Case(
        name=name,
        what=f"one {ending.upper()} image with EXIF orientation 6",
        make=lambda _ffmpeg, path: _save_turned(path, 60, **_lossless(ending)),
        outcome="one row, upright",
        n_frames=1,
        times=[0],
        means=[60],
        size=(WIDTH, HEIGHT),
        tolerance=1,
    )


def _lossless(ending: str) -> dict[str, Any]:
    return {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(ending, {})


TIMES = [0, 0.04, 0.08]
STACK: dict[str, Any] = {"n_frames": 3, "times": TIMES, "means": GRAYS, "size": (HEIGHT, WIDTH)}
TURNED = {**STACK, "size": (WIDTH, HEIGHT), "tolerance": 1}
ANIMATED = {**STACK, "times": [0, 0.04, 0.12], "rate": 12.5}
SIXTEEN = 257  # white of 16 bits over white of 8
PAGES = "each page is a row"

CASES: list[Case] = [
    Case(
        name="cmyk",
        what="a folder of CMYK JPEGs, inverted as Adobe does",
        make=_folder("jpg", _save_cmyk),
        outcome="RGB; color profiles are not applied",
        **{**STACK, "tolerance": 1},
    ),
    *(
        Case(
            name=f"turned_{ending}",
            what=f"a folder of {ending.upper()} images with EXIF orientation 6",
            make=_folder(
                ending, lambda path, gray, e=ending: _save_turned(path, gray, **_lossless(e))
            ),
            outcome="upright",
            **TURNED,
        )
        for ending in ("jpg", "png", "webp", "tif")
    ),
    *(_single_exif(ending) for ending in ("jpg", "png", "webp", "tif")),
    Case(
        name="mixed_orientations",
        what="a folder in which some images have an EXIF orientation",
        make=_folder("png", _save_mixed_orientation),
        outcome="rotates each by its own",
        **TURNED,
    ),
    Case(
        name="unpadded",
        what="a folder of images `1.png`, `2.png`, `10.png`",
        make=_folder("png", _save_by_pillow, ["1", "2", "10"]),
        outcome="natural order: numbers in names are compared as numbers",
        **STACK,
    ),
    Case(
        name="part_padded",
        what="a folder of images of several numbers, some padded: `a1b2`, `a01b10`, `a2b1`",
        make=_folder("png", _save_by_pillow, ["a1b2", "a01b10", "a2b1"]),
        outcome="natural order",
        **STACK,
    ),
    Case(
        name="mixed_contents",
        what="a folder whose `.png` are PNG, BMP and TIFF, next to a `Metadata.json`",
        make=_mixed_contents,
        outcome="finds images by their endings, and decodes them by their content",
        **STACK,
    ),
    Case(
        name="other_size",
        what="a folder of images, one of which has another size",
        make=_folder("png", _save_other_size),
        outcome="scales the others to the most frequent size; the summary reports it",
        warning="1 of 3 images have another size than most, 32×16, and are scaled",
        **STACK,
    ),
    Case(
        name="twelve_bits",
        what="a folder of 16-bit images that use 12 bits",
        make=_folder(
            "png",
            lambda path, gray: Image.fromarray(_flat(gray * 16, dtype=np.uint16)).save(path),
        ),
        outcome="frames have the high byte of the 16 bits; the summary reports that they are dark",
        warning="use 12 bits at most .largest value seen: 1600.*multiply the images by 16",
        **{**STACK, "means": [gray * 16 // 256 for gray in GRAYS]},
    ),
    Case(
        name="sixteen_bits.tif",
        what="a TIFF stack of 16 bits",
        make=_tiff(lambda: _gray_stack(np.uint16, SIXTEEN), photometric="minisblack"),
        outcome="the high byte of each sample",
        **STACK,
    ),
    Case(
        name="stack.tif",
        what="a TIFF of several pages, as Fiji and others write",
        make=_tiff(_gray_stack, photometric="minisblack"),
        outcome=PAGES,
        **STACK,
    ),
    Case(
        name="stack_be.tif",
        what="a big-endian BigTIFF, compressed (deflate)",
        make=_tiff(
            lambda: _gray_stack(np.uint16, SIXTEEN),
            photometric="minisblack",
            byteorder=">",
            bigtiff=True,
            compression="zlib",
        ),
        outcome=PAGES,
        **STACK,
    ),
    Case(
        name="lzw.tif",
        what="a TIFF of several pages, compressed (LZW)",
        make=lambda _ffmpeg, path: _pages()[0].save(
            path, save_all=True, append_images=_pages()[1:], compression="tiff_lzw"
        ),
        outcome=PAGES,
        **STACK,
    ),
    Case(
        name="white_is_zero.tif",
        what="a TIFF stack in which 0 is white",
        make=_tiff(lambda: 255 - _gray_stack(), photometric="miniswhite"),
        outcome="inverts it, so that 255 is white",
        **STACK,
    ),
    Case(
        name="imagej.tif",
        what="a stack of ImageJ",
        make=_tiff(_gray_stack, imagej=True),
        outcome=PAGES,
        **STACK,
    ),
    Case(
        name="imagej_large.tif",
        what="a stack of ImageJ of more than 4 GB, which has one page for all planes",
        make=_large_imagej,
        outcome="each plane is a row",
        **STACK,
    ),
    Case(
        name="hyperstack.tif",
        what="a hyperstack of ImageJ: channels, slices and frames",
        make=_tiff(
            lambda: np.repeat(_gray_stack()[:, np.newaxis], 2, axis=1),
            imagej=True,
            metadata={"axes": "TCYX"},
        ),
        outcome="each plane is a row, in the order of the file; the summary reports it",
        n_frames=6,
        times=[number / 25 for number in range(6)],
        means=[gray for gray in GRAYS for _ in range(2)],
        warning="2 channels × 3 frames: each plane is a row",
    ),
    Case(
        name="stack.ome.tif",
        what="an OME-TIFF",
        make=_tiff(_gray_stack, ome=True, metadata={"axes": "TYX"}, photometric="minisblack"),
        outcome=PAGES,
        **STACK,
    ),
    Case(
        name="planar.tif",
        what="an RGB TIFF whose color planes are stored one after the other",
        make=_tiff(lambda: np.stack([_flat(60)] * 3), photometric="rgb", planarconfig="separate"),
        outcome="one row, RGB",
        n_frames=1,
        times=[0],
        means=[60],
    ),
    Case(
        name="pyramid.tif",
        what="a TIFF with a smaller copy of its image",
        make=_pyramid,
        outcome="the copy is not a row",
        n_frames=1,
        times=[0],
        means=[60],
        size=(HEIGHT, WIDTH),
    ),
    Case(
        name="stack_in_a_folder",
        what="a folder with a stack among its images",
        make=_stack_in_a_folder,
        outcome="all pages are rows, in order",
        n_frames=5,
        times=[number / 25 for number in range(5)],
        means=[10, *GRAYS, 200],
    ),
    Case(
        name="cut.tif",
        what="a stack that is cut off",
        make=_cut_stack,
        outcome="the remaining pages are rows; the video is `damaged`",
        n_frames=2,
        times=TIMES[:2],
        means=GRAYS[:2],
        damage="list of pages breaks off",
    ),
    Case(
        name="endless.tif",
        what="a TIFF whose list of pages is circular",
        make=_endless_list_of_pages,
        outcome="refuses it: there is no last page, so the pages cannot be counted",
        n_frames=0,
        reason="list of pages has no end",
        convert="none: the file is damaged; save it again with the program that wrote it",
    ),
    Case(
        name="float.tif",
        what="a TIFF of floating-point numbers, or of signed or 32-bit integers",
        make=_tiff(lambda: _gray_stack().astype(np.float32), photometric="minisblack"),
        outcome="refuses it: no file states which value is white",
        n_frames=0,
        reason="float32 samples are not supported.*8 or 16 bits",
        convert="Fiji: Image > Type > 16-bit, after setting the range in Image > Adjust > Contrast",
    ),
    *(
        Case(
            name=f"animated.{ending}",
            what=f"an animated {what}",
            make=_animation(**options),
            outcome="each frame is a row, at its own time",
            **ANIMATED,
        )
        for ending, what, options in (
            ("webp", "WebP", {"lossless": True}),
            ("gif", "GIF", {}),
            ("png", "PNG (APNG)", {}),
        )
    ),
    Case(
        name="still_first.apng",
        what="an APNG with a still image for programs that do not know APNG",
        make=_apng_after_a_still,
        outcome="the still image is not a row",
        **ANIMATED,
    ),
    Case(
        name="two_pictures.jpg",
        what="a JPEG followed by further images (MPO, HDR gain maps)",
        make=_two_images,
        outcome="only the first image is a row",
        n_frames=1,
        times=[0],
        means=[60],
        size=(HEIGHT, WIDTH),
        tolerance=1,
    ),
    *(
        Case(
            name=f"timelapse.{ending}",
            what=f"JPEGs with EXIF in {container}",
            make=_timelapse,
            outcome="as other videos; the EXIF orientation of the first frame applies to all",
            **TURNED,
        )
        for ending, container in (("mkv", "Matroska"), ("mp4", "MP4"))
    ),
    Case(
        name="long_text",
        what="a folder of PNGs with long text, or with damaged text, resolution or color profiles",
        make=_folder("png", _save_with_long_text),
        outcome="decodes the image; damaged side information is ignored",
        **STACK,
    ),
    Case(
        name="bad_segment",
        what="a folder of JPEGs with an APP segment of a wrong length",
        make=_folder("jpg", _save_with_bad_segment),
        outcome="decodes the image; damaged side information is ignored",
        **{**STACK, "tolerance": 1},
    ),
    Case(
        name="without_end",
        what="a folder of JPEGs without their last two bytes",
        make=_folder("jpg", _save_without_end),
        outcome="all pixels are there; rows are `suspect`",
        status={"suspect": 3},
        **{**STACK, "tolerance": 1},
    ),
    Case(
        name="two_images.pgm",
        what="a PBM, PGM or PPM file with several images in it",
        make=_two_pnm,
        outcome="only the first image is a row; the summary reports it",
        n_frames=1,
        times=[0.0],
        means=[60],
        warning="images after the first are left out",
    ),
    Case(
        name="bomb.png",
        what="an image of more than 89,478,485 pixels",
        make=_bomb,
        outcome="refuses it: a small file could use all memory with so many pixels",
        n_frames=0,
        reason="too many pixels; at most 89,478,485",
        convert="`ffmpeg -i in.png -vf scale=8192:-2 out.png`, or split it into smaller images",
    ),
    Case(
        name="is_a_video.png",
        what="a video named like an image",
        make=_video_called_png,
        outcome="refuses it: image decoders are chosen by the content of the file",
        n_frames=0,
        reason="no known image format",
        convert="rename it with the ending of its content, such as `.mp4`",
    ),
]
