"""Drawing changes the covered samples only, to the colour the standards prescribe."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pvio.media.blend import rgb_to_yuv
from pvio.media.draw import Canvas

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
# the limited range, the well-known SMPTE colour bar values (e.g. 75 % and 100 % bars).
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
def test_colours_have_the_values_of_the_standards(
    color: str, matrix: str, full_range: bool, bit_depth: int, expected: tuple[int, int, int]
) -> None:
    assert rgb_to_yuv(color, matrix, full_range, bit_depth) == expected


@pytest.mark.parametrize(("matrix", "colorspace"), [("bt601", "ITU601"), ("bt709", "ITU709")])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_agree_with_ffmpeg(matrix: str, colorspace: str, full_range: bool) -> None:
    for color in [(255, 0, 0), (0, 255, 0), (10, 90, 200), (230, 159, 0), (128, 128, 128)]:
        picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), color, np.uint8), format="rgb24")
        frame = picture.reformat(
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


def test_the_last_chroma_cell_of_an_odd_picture_can_be_covered_fully() -> None:
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
    with pytest.raises(ValueError, match="alpha is 2"):
        Canvas([luma]).point(5, 5, alpha=2)
    luma.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        Canvas([luma])
