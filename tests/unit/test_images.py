"""Images: fixed decoders, orientation, order, pages, patterns, and what is refused."""

from __future__ import annotations

import logging
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pvio.cache.entries import Cache
from pvio.collection.image_names import image_files, natural_key, sequence_name
from pvio.collection.search import find_sources
from pvio.errors import CollectionError, UnreadableVideo
from pvio.loader.dataset import VideoCollectionDataset
from pvio.media.decode.reader import open_reader
from pvio.media.images import pillow as pillow_image
from pvio.media.images.files import open_image, opened_image, read_pixels, to_frame
from pvio.media.index.cached import load_index
from pvio.media.pixels.orientation import orientation_from_exif, orientation_of

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (20, 30), np.uint8)
RGB = RANDOM.integers(0, 256, (20, 30, 3), np.uint8)
GRAY16 = RANDOM.integers(0, 65536, (20, 30), np.uint16)
RGB16 = RANDOM.integers(0, 65536, (20, 30, 3), np.uint16)


def lumas(path: Path | str) -> list[int]:
    """The mean of each frame's first samples; -1 for a frame that is missing."""
    index = load_index(path)
    frames = open_reader(index).frames(0, index.n_frames)
    return [
        -1 if frame.pixels is None else round(float(frame.pixels.to_ndarray().mean()))
        for frame in frames
    ]


def flat(gray: int, height: int = 4, width: int = 6) -> Image.Image:
    return Image.new("L", (width, height), gray)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of images: each name with its gray."""

    def make(**images: int) -> Path:
        place = tmp_path / "frames"
        place.mkdir()
        for name, gray in images.items():
            flat(gray).save(place / f"{name}.png")
        return place

    return make


class TestOrder:
    def test_numbers_in_names_are_compared_as_numbers(self):
        names = ["01.png", "1.png", "2.png", "10.png", "a2b10", "a10b2", "a10b10", "t-1", "t-2"]
        turned = names[::-1]
        assert sorted(turned, key=natural_key) == names

    @given(st.lists(st.text(), unique=True))
    def test_any_names_have_one_order(self, names: list[str]):
        first, turned = sorted(names, key=natural_key), names[::-1]
        assert sorted(turned, key=natural_key) == first

    @given(st.lists(st.integers(0, 10**30), unique=True), st.integers(0, 8))
    def test_padding_does_not_change_the_order(self, numbers: list[int], width: int):
        names = [f"img{number:0{width}}.png" for number in numbers]
        ordered = [f"img{number:0{width}}.png" for number in sorted(numbers)]
        assert sorted(names, key=natural_key) == ordered

    def test_the_loader_sorts_by_name_and_says_where_that_differs(self, folder, caplog):
        place = folder(**{"1": 10, "2": 20, "10": 30})
        with caplog.at_level(logging.WARNING):
            dataset = VideoCollectionDataset([place], as_image_dirs=True)
        assert [file.name for file in dataset.frame_sortings[place]] == ["1.png", "10.png", "2.png"]
        assert "10.png comes before 2.png" in caplog.text
        caplog.clear()
        VideoCollectionDataset([place], as_image_dirs=True, frame_sorting=r"(\d+)")
        assert not caplog.text

    def test_loader_and_workflow_take_the_same_files_for_images(self, folder):
        place = folder(**{"1": 10, "2": 20})
        for name in ("Metadata.json", "Thumbs.db", "0.txt", ".0.png"):
            (place / name).write_text("{}")
        (place / "3.png").mkdir()
        flat(30).save(place / "4.TIFF")
        dataset = VideoCollectionDataset([place], as_image_dirs=True)
        assert list(map(str, dataset.frame_sortings[place])) == image_files(place)
        assert [int(item["frame"].mul(255).mean()) for item in dataset] == [10, 20, 30]
        assert lumas(place) == [10, 20, 30]


class TestOrientation:
    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
    def test_images_are_turned_as_pillow_turns_them(self, tmp_path: Path, ending: str, value: int):
        path = tmp_path / f"a.{ending}"
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(RGB).save(
            path, exif=exif, **({"lossless": True} if ending == "webp" else {})
        )
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        with opened_image(path) as image:
            assert image.sizes == [expected.shape[:2]]
            assert np.array_equal(image.read(0), expected)
        assert np.array_equal(read_pixels(path), expected)

    @pytest.mark.parametrize("value", range(1, 9))
    def test_exif_means_what_ffmpeg_takes_it_for(self, tmp_path: Path, value: int):
        exif = Image.Exif()
        exif[0x0112] = value
        Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=exif)
        with av.open(str(tmp_path / "a.jpg")) as container:
            frame = next(container.decode(video=0))
            with pytest.raises(ValueError, match="31 is not a valid Type"):
                _ = frame.side_data  # once PyAV knows it, `orientation` needs no filter any more
        assert orientation_of(frame) == orientation_from_exif(value)

    @pytest.mark.parametrize("value", [0, 9, -1, None, "6", (6,), 6.0])
    def test_other_values_mean_nothing(self, value: Any):
        assert orientation_from_exif(value).is_upright

    def test_exif_after_the_pixels_of_a_png_counts(self, tmp_path: Path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(GRAY).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        data = exif.tobytes()[6:]
        chunk = struct.pack(">I", len(data)) + b"eXIf" + data
        chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
        (tmp_path / "a.png").write_bytes(content[:-12] + chunk + content[-12:])
        assert np.array_equal(read_pixels(tmp_path / "a.png")[:, :, 0], np.rot90(GRAY, 3))

    def test_exif_that_is_damaged_is_no_damage(self, tmp_path: Path):
        Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
        assert read_pixels(tmp_path / "a.jpg").shape == (20, 30, 1)


class TestTiff:
    @pytest.mark.parametrize(
        ("pixels", "options"),
        [
            (GRAY, {}),
            (GRAY16, {"byteorder": ">"}),
            (RGB, {"photometric": "rgb"}),
            (RGB16, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
            (RGB16.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
            (GRAY16, {"tile": (16, 16), "compression": "zlib"}),
        ],
    )
    def test_samples_are_as_they_are(self, tmp_path: Path, pixels: np.ndarray, options: Any):
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
        expected = pixels.transpose(1, 2, 0) if options.get("planarconfig") else pixels
        found = read_pixels(tmp_path / "a.tif")
        assert found.dtype == pixels.dtype
        assert np.array_equal(found, expected.reshape(found.shape))

    @pytest.mark.parametrize("compression", ["raw", "lzw", "deflate", "packbits"])
    @pytest.mark.parametrize("pix_fmt", ["gray", "gray16le", "rgb24", "rgb48le", "pal8", "monob"])
    def test_pages_of_all_types_are_what_ffmpeg_makes_of_them(
        self, ffmpeg: Any, tmp_path: Path, pix_fmt: str, compression: str
    ):
        source = ("-f", "lavfi", "-i", "testsrc=s=32x24:d=1:r=1", "-frames:v", "1")
        path = tmp_path / "a.tif"
        ffmpeg.run(*source, "-pix_fmt", pix_fmt, "-compression_algo", compression, path)
        found = to_frame(read_pixels(path)).reformat(format="rgb24").to_ndarray()
        if pix_fmt == "rgb48le":  # swscale rounds; the rule is the high byte
            raw = np.frombuffer(ffmpeg.decode(path, pix_fmt), "<u2").reshape(24, 32, 3)
            expected = (raw >> 8).astype(np.uint8)
        elif pix_fmt == "gray16le":
            raw = np.frombuffer(ffmpeg.decode(path, pix_fmt), "<u2").reshape(24, 32, 1)
            expected = (raw >> 8).astype(np.uint8).repeat(3, axis=2)
        else:
            expected = ffmpeg.rgb(path, 24, 32)[0]
        assert np.array_equal(found, expected)

    def test_packed_samples_of_12_bits_are_scaled(self, tmp_path: Path):
        values = (GRAY16 >> 4).reshape(-1, 2).astype(int)
        pairs = (values[:, 0] << 12) | values[:, 1]
        data = np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], 1).astype(np.uint8).tobytes()
        tags = [
            *((256, 3, 1, 30), (257, 3, 1, 20), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1)),
            *((273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 20), (279, 4, 1, len(data))),
        ]
        page = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        start = b"II*\0" + struct.pack("<I", 8 + len(data))
        (tmp_path / "a.tif").write_bytes(start + data + page + bytes(4))
        assert np.array_equal(read_pixels(tmp_path / "a.tif")[:, :, 0], GRAY16 >> 4 << 4)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int16, np.uint32])
    def test_types_without_a_stated_range_are_refused(self, tmp_path: Path, dtype: Any):
        tifffile.imwrite(tmp_path / "a.tif", GRAY.astype(dtype))
        with pytest.raises(UnreadableVideo, match=f"{np.dtype(dtype)} samples are not supported"):
            load_index(tmp_path / "a.tif")

    def test_a_file_cut_within_its_samples_is_no_black_image(self, tmp_path: Path):
        tifffile.imwrite(tmp_path / "a.tif", GRAY16)
        content = (tmp_path / "a.tif").read_bytes()
        (tmp_path / "a.tif").write_bytes(content[:-100])
        assert lumas(tmp_path / "a.tif") == [-1]

    def test_a_long_stack_is_indexed_fast(self, tmp_path: Path):
        pages = np.zeros((3000, 2, 2), np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", contiguous=False)
        began = time.process_time()
        with opened_image(tmp_path / "a.tif") as image:
            assert len(image.sizes) == 3000
        assert time.process_time() - began < 1.5  # tifffile's own list takes 2.4 s


class TestPages:
    def test_pages_are_read_in_any_order(self, tmp_path: Path):
        first, *others = (flat(gray) for gray in (10, 20, 30, 40))
        first.save(tmp_path / "a.webp", save_all=True, append_images=others, lossless=True)
        index = load_index(tmp_path / "a.webp")
        assert index.keyframes.tolist() == [0]
        reader = open_reader(index)
        found = [
            round(float(frame.pixels.to_ndarray().mean()))
            for frame_numbers in ((2, 4), (0, 1), (3, 4))
            for frame in reader.frames(*frame_numbers)
        ]
        assert found == [30, 40, 10, 40]

    def test_an_index_of_pages_is_stored(self, tmp_path: Path):
        frames = tmp_path / "frames"
        frames.mkdir()
        flat(5, 8, 8).save(frames / "0.png")
        stack = np.stack([np.full((4, 6), gray, np.uint8) for gray in (1, 2)])
        tifffile.imwrite(frames / "1.tif", stack, photometric="minisblack")
        cache = Cache(tmp_path / "store")
        first, again = load_index(frames, cache), load_index(frames, cache)
        assert again.pages == first.pages == (1, 2)
        assert again.other_sizes == first.other_sizes == ((8, 8),)
        assert "1 of 3 images have another size" in again.warning

    @pytest.mark.parametrize("n_claimed", [2, 1 << 31])
    def test_an_animation_that_claims_more_frames_than_it_has(self, tmp_path: Path, n_claimed: int):
        flat(10).save(tmp_path / "a.png", save_all=True, append_images=[flat(20)])
        content = bytearray((tmp_path / "a.png").read_bytes())
        at = content.index(b"acTL")
        content[at + 4 : at + 8] = struct.pack(">I", n_claimed)
        content[at + 12 : at + 16] = struct.pack(">I", zlib.crc32(content[at : at + 12]))
        (tmp_path / "a.png").write_bytes(content)
        assert load_index(tmp_path / "a.png").n_frames == 2

    def test_a_gif_of_tiny_frames_has_all_of_them(self, tmp_path: Path):
        frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
        start = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes((9, 9, 9, 90, 90, 90))
        (tmp_path / "a.gif").write_bytes(start + frame * 300 + b";")
        index = load_index(tmp_path / "a.gif")
        assert (index.n_frames, index.damage) == (300, "")
        assert lumas(tmp_path / "a.gif") == [9] * 300

    def test_pages_that_have_no_room_are_left_out_and_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        first, *others = (flat(gray) for gray in (10, 20, 30))
        first.save(tmp_path / "a.gif", save_all=True, append_images=others)
        room = (tmp_path / "a.gif").stat().st_size // 2
        monkeypatch.setitem(pillow_image._LEAST_PAGE, "GIF", room)
        index = load_index(tmp_path / "a.gif")
        assert index.n_frames == 2
        assert "claims 3 pages, and its size has room for 2" in index.damage

    @pytest.mark.parametrize(
        "start",
        [
            *(b"P4 8 2\n", b"P5 8 2 255\n", b"P5 8 2 65535\n", b"P5 8 2 1023\n"),
            *(b"P6 8 2 255\n", b"P6 8 2 1023\n", b"P6 8 2 65535\n"),
        ],
    )
    def test_a_second_image_of_a_pnm_file_is_named(self, tmp_path: Path, start: bytes):
        kind, maximum = start[:2], int(start.split()[-1])
        size = {b"P4": 2}.get(kind, 16 * (3 if kind == b"P6" else 1) * (2 if maximum > 255 else 1))
        content = start + bytes(size)
        for n, warning in ((1, ""), (2, "images after the first are left out")):
            (tmp_path / "a.ppm").write_bytes(content * n)
            index = load_index(tmp_path / "a.ppm")
            assert index.n_frames == 1
            assert index.warning.startswith(warning)
            assert bool(index.warning) == bool(warning)

    def test_the_loader_does_not_take_the_first_page_for_all(self, tmp_path: Path):
        stack = np.stack([np.full((4, 6), gray, np.uint8) for gray in (1, 2)])
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        with pytest.raises(UnreadableVideo, match="2 pages where one image is expected"):
            read_pixels(tmp_path / "a.tif")
        dataset = VideoCollectionDataset([tmp_path / "a.tif"])
        assert [int(item["frame"].mul(255).mean()) for item in dataset] == [1, 2]


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["*.png", "%d.png", "[0-9]*.png", "?*.png"])
    def test_a_pattern_of_all_images_of_a_folder_is_its_sequence(self, folder, pattern: str):
        place = folder(**{"1": 10, "2": 20, "10": 30})
        (source,) = find_sources([str(place / pattern)])
        assert (source.path, source.name, source.is_image_folder) == (str(place), "frames", True)
        assert lumas(place / pattern) == [10, 20, 30]

    @pytest.mark.parametrize("pattern", ["cam1_*.png", "cam1_%02d.png", "cam1_??.png"])
    def test_a_pattern_of_some_images_is_the_sequence_of_these(self, folder, pattern: str):
        place = folder(cam1_01=10, cam1_02=20, cam2_01=30)
        (source,) = find_sources([str(place / pattern)])
        assert source.is_image_folder
        assert source.name == "cam1"
        assert lumas(source.path) == [10, 20]

    def test_patterns_of_several_cameras_have_names_of_their_own(self, folder):
        place = folder(cam1_1=10, cam2_1=20)
        names = [str(place / f"cam{number}_%d.png") for number in (1, 2)]
        assert [source.name for source in find_sources(names)] == ["cam1", "cam2"]

    def test_numbers_are_those_that_the_pattern_pads(self, folder):
        place = folder(**{"00001": 10, "2": 20, "100000": 30, "000003": 40})
        assert [Path(file).stem for file in image_files(place / "%05d.png")] == ["00001", "100000"]

    def test_a_pattern_over_folders_is_a_sequence_in_each(self, tmp_path: Path):
        for name in ("run1", "run2"):
            (tmp_path / name).mkdir()
            flat(10).save(tmp_path / name / "1.jpg")
            flat(20).save(tmp_path / name / "2.jpg")
        sources = find_sources([str(tmp_path / "*" / "*.jpg")])
        assert [(source.name, source.is_image_folder) for source in sources] == [
            ("run1", True),
            ("run2", True),
        ]

    def test_stacks_found_by_a_pattern_are_videos_of_their_own(self, tmp_path: Path):
        stack = np.zeros((3, 4, 6), np.uint8)
        for name in ("a", "b"):
            tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack")
        sources = find_sources([str(tmp_path / "*.tif")])
        assert [(source.name, source.is_image_folder) for source in sources] == [
            ("a", False),
            ("b", False),
        ]

    def test_a_folder_with_brackets_is_meant_as_it_is(self, folder):
        place = folder(**{"1": 10})
        place = place.rename(place.with_name("day[1]"))
        assert [source.path for source in find_sources([str(place / "%d.png")])] == [str(place)]

    def test_a_file_that_is_called_like_a_pattern_is_a_file(self, folder):
        place = folder(**{"%d": 10, "1": 20})
        assert lumas(place / "%d.png") == [10]

    def test_a_pattern_without_images_is_an_error(self, folder):
        with pytest.raises(CollectionError, match="no image matches"):
            find_sources([str(folder(a=1) / "%05d.png")])

    def test_a_pattern_of_the_working_folder(self, folder, monkeypatch: pytest.MonkeyPatch):
        place = folder(**{"1": 10, "2": 20, "b_1": 30})
        monkeypatch.chdir(place)
        assert [source.path for source in find_sources(["*.png"])] == [str(place)]
        assert [source.path for source in find_sources(["b_%d.png"])] == [str(place / "b_%d.png")]

    def test_a_folder_that_cannot_be_listed_is_named(self, folder, monkeypatch: pytest.MonkeyPatch):
        place = folder(**{"1": 10})

        def fail(_path: str) -> None:
            raise OSError(116, "Stale file handle")

        monkeypatch.setattr("pvio.collection.image_names.os.scandir", fail)
        with pytest.raises(CollectionError, match="frames' cannot be listed: Stale file handle"):
            find_sources([str(place / "*.png")])

    def test_an_image_added_to_a_sequence_is_found(self, folder, tmp_path: Path):
        place = folder(a_1=10, b_1=20)
        cache = Cache(tmp_path / "store")
        before = load_index(place / "a_*.png", cache)
        flat(30).save(place / "a_2.png")
        after = load_index(place / "a_*.png", cache)
        assert (before.n_frames, after.n_frames) == (1, 2)
        assert before.content_digest != after.content_digest

    def test_names_leave_out_what_stands_for_numbers(self):
        assert sequence_name("/d/run/%05d.png") == "/d/run"
        assert sequence_name("/d/run/cam1_%05d.png") == "/d/run/cam1"
        assert sequence_name("/d/run/[0-9]*-left.png") == "/d/run/left"


class TestHostile:
    def test_a_video_called_png_is_refused_without_decoding_it(self, ffmpeg: Any, tmp_path: Path):
        source = ("-f", "lavfi", "-i", "color=size=64x48:rate=25", "-frames:v", "30")
        ffmpeg.run(*source, "-f", "mp4", tmp_path / "a.png")
        with pytest.raises(UnreadableVideo, match="no known image format"):
            open_image(tmp_path / "a.png")

    @pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile x.png\n", "#EXTM3U\n", ""])
    def test_files_that_name_others_are_refused(self, tmp_path: Path, text: str):
        (tmp_path / "a.png").write_text(text)
        flat(10).save(tmp_path / "x.png")
        with pytest.raises(UnreadableVideo):
            load_index(tmp_path / "a.png")
        assert lumas(tmp_path) == [-1, 10]

    @pytest.mark.parametrize("size", [(12_000, 8_000), (60_000, 60_000)])
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_images_of_too_many_pixels_are_refused(
        self, tmp_path: Path, kind: str, size: tuple[int, int]
    ):
        path = tmp_path / "a.png"
        flat(10).save(path, format=kind)
        content = bytearray(path.read_bytes())
        if kind == "PNG":
            content[16:24] = struct.pack(">II", *size)
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        else:
            at = struct.unpack_from("<I", content, 4)[0] + 2
            for number, side in zip((256, 257), size, strict=True):
                entry = next(
                    at + 12 * n
                    for n in range(20)
                    if struct.unpack_from("<H", content, at + 12 * n)[0] == number
                )
                struct.pack_into("<HII", content, entry + 2, 4, 1, side)
        path.write_bytes(content)
        with pytest.raises(UnreadableVideo, match="pixels; at most 89,478,485 are read"):
            read_pixels(path)

    def test_a_broken_link_costs_its_row_alone(self, folder, tmp_path: Path):
        place = folder(**{"1": 10, "3": 30})
        (place / "2.png").symlink_to("/absent.png")
        assert lumas(place) == [10, -1, 30]
        cache = Cache(tmp_path / "store")
        before = load_index(place, cache)
        (place / "2.png").unlink()
        flat(20).save(place / "2.png")
        assert load_index(place, cache).content_digest != before.content_digest

    def test_a_folder_that_lost_an_image_since_it_was_indexed_is_not_shifted(self, folder):
        place = folder(**{"1": 10, "2": 20, "3": 30})
        index = load_index(place)
        (place / "2.png").unlink()
        with pytest.raises(UnreadableVideo, match="the folder has 2 images; it had 3"):
            open_reader(index)
