"""Drawing changes the covered samples only, to the color the standards prescribe."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pvio.media.draw.canvas import Canvas
from pvio.media.draw.compositing import rgb_to_yuv
from pvio.media.draw.rasterize import polygon_coverage, rectangle_coverage
from pvio.media.draw.text import text_coverage

Planes = list[NDArray[Any]]


def noise_planes(
    height: int, width: int, step_y: int = 2, step_x: int = 2, bit_depth: int = 8
) -> Planes:
    """Y, U, V with random samples, so that any change shows."""
    random = np.random.default_rng(0)
    chroma = (-(-height // step_y), -(-width // step_x))
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return [
        random.integers(0, 2**bit_depth, shape).astype(dtype)
        for shape in ((height, width), chroma, chroma)
    ]


def copies(planes: Planes) -> Planes:
    return [plane.copy() for plane in planes]


def same(a: Planes, b: Planes) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# Worked out from ITU-R BT.601, BT.709 and BT.2020 with their published integer matrices and, for
# the limited range, the well-known SMPTE color bar values (e.g. 75 % and 100 % bars).
KNOWN_COLORS = [
    ("white", "bt709", False, 8, (235, 128, 128)),
    ("black", "bt709", False, 8, (16, 128, 128)),
    ("red", "bt601", False, 8, (81, 90, 240)),
    ("lime", "bt601", False, 8, (145, 54, 34)),
    ("blue", "bt601", False, 8, (41, 240, 110)),
    ("red", "smpte170m", False, 8, (81, 90, 240)),
    ("red", "bt709", False, 8, (63, 102, 240)),
    ("lime", "bt709", False, 8, (173, 42, 26)),
    ("blue", "bt709", False, 8, (32, 240, 118)),
    ("red", "bt2020", False, 10, (294, 387, 960)),
    ("white", "bt709", False, 10, (940, 512, 512)),
    ("white", "bt709", True, 8, (255, 128, 128)),
    ("red", "bt601", True, 8, (76, 85, 255)),  # JPEG's red: V 255.5 is cut to the largest sample
]


@pytest.mark.parametrize(("color", "matrix", "full_range", "bit_depth", "expected"), KNOWN_COLORS)
def test_colors_have_the_values_of_the_standards(
    color: str, matrix: str, full_range: bool, bit_depth: int, expected: tuple[int, int, int]
) -> None:
    assert rgb_to_yuv(color, matrix, full_range, bit_depth) == expected


@pytest.mark.parametrize(("matrix", "colorspace"), [("bt601", "ITU601"), ("bt709", "ITU709")])
@pytest.mark.parametrize("full_range", [False, True])
def test_colors_agree_with_ffmpeg(matrix: str, colorspace: str, full_range: bool) -> None:
    for color in [(255, 0, 0), (0, 255, 0), (10, 90, 200), (230, 159, 0), (128, 128, 128)]:
        pixels = av.VideoFrame.from_ndarray(np.full((16, 16, 3), color, np.uint8), format="rgb24")
        frame = pixels.reformat(
            format="yuv444p",
            dst_colorspace=colorspace,
            dst_color_range="JPEG" if full_range else "MPEG",
        )
        planes: Any = frame.planes
        ffmpeg = [int(np.frombuffer(plane, np.uint8)[0]) for plane in planes]
        assert rgb_to_yuv(color, matrix, full_range, 8) == pytest.approx(ffmpeg, abs=1)


@pytest.mark.parametrize(
    ("height", "width", "step_y", "step_x", "bit_depth"),
    [
        (48, 64, 2, 2, 8),
        (47, 63, 2, 2, 8),
        (47, 63, 1, 2, 8),
        (47, 63, 1, 1, 8),
        (47, 63, 2, 2, 10),
    ],
)
def test_samples_outside_a_shape_are_untouched(
    height: int, width: int, step_y: int, step_x: int, bit_depth: int
) -> None:
    planes = noise_planes(height, width, step_y, step_x, bit_depth)
    before = copies(planes)
    canvas = Canvas(planes, bit_depth=bit_depth)
    canvas.point(30, 20, 4, "red")
    canvas.ellipse(30, 20, 8, 4, 0.5, "white", 2)
    canvas.line(25, 16, 36, 25, "blue", 2)
    canvas.skeleton([(24, 16), (31, 22), (36, 18)], [(0, 1), (1, 2)], "lime", 2, 2)
    canvas.trail([(24, 25), (30, 14), (36, 22)], "yellow", 2)
    for plane, old, sy, sx in zip(
        planes, before, (1, step_y, step_y), (1, step_x, step_x), strict=True
    ):
        near = np.zeros(plane.shape, bool)
        near[9 // sy : 31 // sy + 1, 19 // sx : 41 // sx + 1] = True
        assert np.array_equal(plane[~near], old[~near])
        assert (plane[near] != old[near]).mean() > 0.1


@pytest.mark.parametrize(
    ("step_y", "step_x", "bit_depth"), [(2, 2, 8), (1, 2, 8), (1, 1, 8), (2, 2, 10), (1, 2, 12)]
)
def test_the_middle_of_a_shape_has_the_exact_colour(
    step_y: int, step_x: int, bit_depth: int
) -> None:
    planes = noise_planes(41, 51, step_y, step_x, bit_depth)
    Canvas(planes, bit_depth=bit_depth).point(25, 20, 8, (200, 30, 90))
    expected = rgb_to_yuv((200, 30, 90), "bt709", False, bit_depth)
    assert planes[0][20, 25] == expected[0]
    assert [int(plane[20 // step_y, 25 // step_x]) for plane in planes[1:]] == list(expected[1:])


def test_a_box_of_whole_pixels_covers_exactly_its_outline() -> None:
    luma = np.zeros((20, 30), np.uint8)
    Canvas([luma], full_range=True).box(4, 3, 12, 9, "white", 1)
    expected = np.zeros_like(luma)
    expected[3:10, 4:13] = 255
    expected[4:9, 5:12] = 0
    assert np.array_equal(luma, expected)


def test_a_line_covers_its_length_times_its_width() -> None:
    luma = np.zeros((40, 60), np.uint8)
    Canvas([luma], full_range=True).line(10, 20, 49, 20, "white", 3)
    assert (luma[19:22, 11:49] == 255).all()
    assert not luma[[17, 23]].any()


def test_a_disc_has_the_area_and_centre_of_a_disc() -> None:
    luma = np.zeros((50, 50), np.uint8)
    Canvas([luma], full_range=True).point(22.25, 27.5, 10, "white")
    weight = luma / 255
    y, x = np.mgrid[:50, :50]
    assert weight.sum() == pytest.approx(np.pi * 100, rel=0.03)
    assert (weight * x).sum() / weight.sum() == pytest.approx(22.25, abs=0.1)
    assert (weight * y).sum() / weight.sum() == pytest.approx(27.5, abs=0.1)


def test_an_ellipse_turns_from_x_towards_y() -> None:
    luma = np.zeros((61, 61), np.uint8)
    Canvas([luma], full_range=True).ellipse(30, 30, 20, 5, np.pi / 4, "white", 1)
    y, x = np.nonzero(luma)
    assert np.corrcoef(x, y)[0, 1] > 0.7


def test_a_mask_is_blended_and_chroma_cells_take_the_share_covered() -> None:
    planes = [np.full((6, 6), 100, np.uint8), *(np.full((3, 3), 128, np.uint8) for _ in "UV")]
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:5] = True
    Canvas(planes, matrix="bt601").mask(mask, "red", alpha=0.5)
    luma, u, v = rgb_to_yuv("red", "bt601", False, 8)
    assert set(planes[0][mask]) == {round(100 + 0.5 * (luma - 100))}
    assert (planes[0][~mask] == 100).all()
    assert planes[2].tolist() == [[128] * 3, [128, 184, 156], [128] * 3]
    assert planes[1][1, 1] == round(128 + 0.5 * (u - 128))
    assert v == 240


def test_the_last_chroma_cell_of_an_odd_frame_can_be_covered_fully() -> None:
    planes = noise_planes(5, 5)
    Canvas(planes).mask(np.ones((5, 5), bool), "lime", alpha=1)
    for plane, value in zip(planes, rgb_to_yuv("lime", "bt709", False, 8), strict=True):
        assert (plane == value).all()


def test_shapes_partly_outside_are_cut_at_the_edge() -> None:
    large, small = np.zeros((80, 80), np.uint8), np.zeros((40, 40), np.uint8)
    for luma, shift in ((large, 20), (small, 0)):
        canvas = Canvas([luma], full_range=True)
        canvas.point(shift - 2, shift + 5, 6, "white")
        canvas.ellipse(shift + 38, shift + 38, 12, 6, 0.3, "white", 2)
        canvas.line(shift - 10, shift + 15, shift + 50, shift + 25, "white", 2)
        canvas.text(shift + 25, shift - 4, "abc", size=12)
    assert small.any()
    assert np.abs(large[20:60, 20:60].astype(int) - small).max() <= 64


def test_shapes_outside_or_without_finite_coordinates_draw_nothing() -> None:
    planes = noise_planes(31, 41)
    before = copies(planes)
    canvas = Canvas(planes)
    for x, y in [(np.nan, 5), (5, np.nan), (np.inf, 5), (-100, 5), (5, 500), (1e12, -1e12)]:
        canvas.point(x, y)
        canvas.circle(x, y, 5, "red", 2)
        canvas.ellipse(x, y, 8, 4, 0.2, "red", 2)
        canvas.text(x, y, "fly", "red", 12, background="black")
        canvas.box(x, y, x + 5, y + 5, "red", 1)
        canvas.line(x, y, x + 3, y + 1, "red", 2)
        canvas.skeleton([(x, y), (x + 3, y + 1)], [(0, 1)], "red", 2)
        canvas.trail([(x, y), (x + 3, y + 1)], "red", 2)
    canvas.ellipse(10, 10, np.nan, 4, 0)
    canvas.polyline([])
    canvas.text(5, 5, "")
    assert same(planes, before)


def test_a_track_with_a_gap_is_drawn_around_the_gap() -> None:
    luma = np.zeros((20, 60), np.uint8)
    track = [(5, 10), (20, 10), (np.nan, np.nan), (40, 10), (55, 10)]
    Canvas([luma], full_range=True).polyline(track, "white", 1)
    assert (luma[10, 6:20] == 255).all()
    assert not luma[:, 22:39].any()
    assert (luma[10, 41:55] == 255).all()


NOWHERE = (np.nan, np.nan)


def test_a_skeleton_has_discs_at_its_keypoints_and_lines_along_its_edges() -> None:
    luma = np.zeros((40, 60), np.uint8)
    keypoints = np.array([(10, 10), (40, 10), (40, 30), (10, 30)])
    Canvas([luma], full_range=True).skeleton(keypoints, [(0, 1), (1, 2)], "white", 1, 3)
    assert all((luma[y - 2 : y + 3, x - 1 : x + 2] == 255).all() for x, y in keypoints)
    assert (luma[10, 10:41] == 255).all()
    assert (luma[10:31, 40] == 255).all()
    assert not luma[14:27, :36].any()
    assert not luma[27:34, 15:36].any()


def test_a_keypoint_with_nan_and_its_edges_are_left_out() -> None:
    whole, without = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    Canvas([whole]).skeleton([(10, 10), (40, 10)], [(0, 1)], "white", 2)
    keypoints = [(10, 10), NOWHERE, (40, 10), (5, np.nan)]
    Canvas([without]).skeleton(keypoints, [(0, 2), (0, 1), (1, 2), (3, 0)], "white", 2)
    assert np.array_equal(whole, without)


def test_edges_and_keypoints_take_their_own_colors() -> None:
    luma = np.zeros((40, 60), np.uint8)
    Canvas([luma], full_range=True).skeleton(
        np.array([(10, 10), (40, 10), (40, 30)]), np.array([(0, 1), (1, 2)]), "white", 2, 3,
        edge_colors=["#404040", (96, 96, 96)], point_colors=["#808080", "#a0a0a0", "#c0c0c0"],
    )  # fmt: skip
    assert luma[10, 25] == 0x40
    assert luma[20, 40] == 96
    assert [luma[10, 10], luma[10, 40], luma[30, 40]] == [0x80, 0xA0, 0xC0]


def test_a_translucent_skeleton_is_even_where_its_parts_overlap() -> None:
    luma = np.zeros((40, 60), np.uint8)
    keypoints = [(10, 10), (30, 20), (50, 10)]
    Canvas([luma], full_range=True).skeleton(
        keypoints, [(0, 1), (1, 2), (0, 2)], "white", 3, 5, alpha=0.5
    )
    assert luma.max() == 128
    assert luma[20, 30] == luma[10, 10] == luma[10, 30] == 128


def test_a_trail_fades_out_towards_the_oldest_position() -> None:
    luma = np.zeros((20, 120), np.uint8)
    Canvas([luma], full_range=True).trail([(10 * i, 10) for i in range(1, 12)], "white", 3)
    parts = luma[10, 15:115:10].astype(int)
    assert parts.tolist() == [round(255 * i / 10) for i in range(1, 11)]
    assert not luma[[7, 13]].any()


def test_a_trail_has_a_gap_where_positions_are_unknown() -> None:
    luma = np.zeros((20, 60), np.uint8)
    trail = [(5, 10), (20, 10), NOWHERE, (40, 10), (55, 10)]
    Canvas([luma], full_range=True).trail(trail, "white", 1)
    assert (luma[10, 6:20] == round(255 / 4)).all()
    assert not luma[:, 22:39].any()
    assert (luma[10, 41:55] == 255).all()


def test_a_trail_that_crosses_itself_shows_the_later_part() -> None:
    luma = np.zeros((40, 40), np.uint8)
    trail = [(5, 20), (35, 20), (35, 35), (20, 35), (20, 5)]
    Canvas([luma], full_range=True).trail(trail, "white", 3, alpha=0.5)
    assert luma[20, 20] == luma[10, 20] == luma.max() == 128


def test_a_trail_without_two_known_positions_in_a_row_draws_nothing() -> None:
    planes = noise_planes(20, 30)
    before = copies(planes)
    for trail in ([], [(5, 5)], [(5, 5), NOWHERE, (9, 9)], np.full((8, 2), np.nan)):
        Canvas(planes).trail(trail, "red", 3)
    assert same(planes, before)


def test_a_shape_larger_than_a_tile_has_no_seams() -> None:
    planes = [np.zeros((701, 803), np.uint8), *(np.full((351, 402), 128, np.uint8) for _ in "UV")]
    Canvas(planes, full_range=True).circle(400, 350, 320, "red", 12, alpha=0.5)
    y, x = np.mgrid[:701, :803]
    radius = np.hypot(x - 400, y - 350)
    inside, outside = np.abs(radius - 320) < 3, np.abs(radius - 320) > 8
    luma, _, v = rgb_to_yuv("red", "bt709", True, 8)
    assert set(planes[0][inside]) == {round(luma / 2)}
    assert set(planes[2][inside[::2, ::2]]) == {round(128 + (v - 128) / 2)}
    assert not planes[0][outside].any()


@pytest.mark.parametrize("corners", [(3, 4, 20, 9), (2.5, 1.25, 17.3, 8.9), (-5, -7.5, 60, 3)])
def test_a_rectangle_covers_what_its_outline_covers(corners: tuple[float, ...]) -> None:
    x0, y0, x1, y1 = corners
    outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    (expected,) = polygon_coverage([outline], [255], (30, 40))
    (cover,) = rectangle_coverage(x0, y0, x1, y1, (30, 40))
    assert (cover.left, cover.top) == (expected.left, expected.top)
    assert np.array_equal(cover.share, expected.share)


@pytest.mark.parametrize("size", [9.0, 13.0, 34.0])
@pytest.mark.parametrize("string", ["frame 12  0.480 s", "WAVE fjord\n\ny|{}(%)_", "°C ±", " 1"])
def test_text_is_that_of_pillow(string: str, size: float) -> None:
    font = ImageFont.load_default(size)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), string, font=font)
    image = Image.new("L", (int(box[2]), int(box[3])))
    ImageDraw.Draw(image).text((0, 0), string, fill=255, font=font)
    assert np.array_equal(text_coverage(string, size), np.asarray(image))


def test_text_appears_on_its_background() -> None:
    luma = np.full((40, 120), 77, np.uint8)
    Canvas([luma], full_range=True).text(10, 8, "frame 12", "white", 16, background="black")
    assert {0, 255} <= set(luma[8:26, 10:70].ravel())
    assert (luma[:, 100:] == 77).all()


def test_rows_of_a_padded_decoder_plane_can_be_drawn_on() -> None:
    padded = np.full((20, 64), 9, np.uint8)
    Canvas([padded[:, :50]], full_range=True).mask(np.ones((20, 50), bool), "white", alpha=1)
    assert (padded[:, :50] == 255).all()
    assert (padded[:, 50:] == 9).all()


def test_wrong_arguments_are_named() -> None:
    luma = np.zeros((10, 10), np.uint8)
    with pytest.raises(ValueError, match="matrix is 'bt999'; expected one of bt601"):
        Canvas([luma], matrix="bt999")
    with pytest.raises(ValueError, match="planes has 2 arrays"):
        Canvas([luma, luma])
    with pytest.raises(ValueError, match="chroma height is 7 for luma height 10"):
        Canvas([luma, luma[:7], luma[:7]])
    with pytest.raises(ValueError, match="expected uint16"):
        Canvas([luma], bit_depth=10)
    with pytest.raises(ValueError, match="mask is"):
        Canvas([luma]).mask(np.ones((3, 3), bool))
    with pytest.raises(ValueError, match=r"edge \(0, 2\) names a keypoint that is not one of 0..1"):
        Canvas([luma]).skeleton([(1, 1), (2, 2)], [(0, 2)])
    with pytest.raises(ValueError, match="edge_colors has 2 colors; expected 1"):
        Canvas([luma]).skeleton([(1, 1), (2, 2)], [(0, 1)], edge_colors=["red", "lime"])
    with pytest.raises(ValueError, match="alpha is 2"):
        Canvas([luma]).point(5, 5, alpha=2)
    luma.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        Canvas([luma])


def test_letters_that_the_font_lacks_are_drawn_as_plain_ones():
    def drawn(text: str) -> np.ndarray:
        luma = np.zeros((40, 200), np.uint8)
        Canvas([luma]).text(4, 4, text, color="white", size=20)
        return luma

    assert np.array_equal(drawn("37 °C"), drawn("37 °C"))
    assert np.array_equal(drawn("é ü µm"), drawn("e u um"))
    assert np.array_equal(drawn("漢"), drawn("?"))
    assert not np.array_equal(drawn("°"), drawn("?"))
