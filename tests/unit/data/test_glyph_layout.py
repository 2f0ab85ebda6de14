"""How signs are laid out: measured on published datasets, and given to drawings."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from darkroom.data.glyph_layout import FOREGROUND, GlyphLayout, common_ground, measure_glyphs, on_light, place

MNIST = GlyphLayout(extent=20 / 28, by_mass=True, stroke=2.36)


@pytest.fixture(scope="module")
def digits():
    return (load_digits().images * (255 / 16)).round().astype(np.uint8)[:, None]


def published(mirror, name):
    if mirror is None:
        pytest.skip("this machine has no mirror of the published archives")
    with gzip.open(mirror / name / "train-images-idx3-ubyte.gz") as opened:
        return np.frombuffer(opened.read(16 + 5000 * 784), np.uint8, offset=16).reshape(-1, 1, 28, 28)


def frame(height, width, *, pen=4, paper=(100, 100), corner=(10, 20)):
    """A drawing of a rectangle."""
    drawing = np.zeros(paper, np.uint8)
    rows, columns = slice(corner[0], corner[0] + height), slice(corner[1], corner[1] + width)
    drawing[rows, columns] = 255
    drawing[rows, columns][pen:-pen, pen:-pen] = 0
    return drawing


def box(image):
    """Height and width of the box around the foreground, and the shares of its middle; uint8 [1, H, W]."""
    rows, columns = np.flatnonzero((image[0] >= FOREGROUND).any(1)), np.flatnonzero((image[0] >= FOREGROUND).any(0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    return height, width, (rows[0] + height / 2) / image.shape[1], (columns[0] + width / 2) / image.shape[2]


def mass(image):
    """The center of mass as shares of height and width; uint8 [1, H, W]."""
    weights = image[0] / image.sum()
    height, width = weights.shape
    return weights.sum(1) @ (np.arange(height) + 0.5) / height, weights.sum(0) @ (np.arange(width) + 0.5) / width


# --- measuring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negative", [False, True])
def test_digits_fill_their_height(digits, negative):
    found = measure_glyphs(255 - digits if negative else digits)
    assert found is not None
    assert (found.extent, found.by_mass) == (1.0, False)
    assert 1 < found.stroke < 2  # as a person counts


def test_mnist_is_a_box_of_20_pixels_with_its_center_of_mass_in_the_middle(mirror):
    found = measure_glyphs(published(mirror, "mnist"))
    assert found is not None
    assert found.by_mass
    assert found.extent == pytest.approx(20 / 28)
    assert 2 < found.stroke < 3


def test_clothes_are_no_signs(mirror):
    assert measure_glyphs(published(mirror, "fashion-mnist")) is None


def test_color_has_no_layout(digits):
    assert measure_glyphs(digits.repeat(3, axis=1)) is None


def test_photographs_and_textures_are_no_signs():
    photograph = np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L"))
    patches = np.stack([photograph[y : y + 32, x : x + 32] for y in range(0, 384, 32) for x in range(0, 608, 32)])
    texture = np.random.default_rng(0).integers(0, 256, (200, 1, 32, 32), dtype=np.uint8)
    assert measure_glyphs(patches[:, None]) is None
    assert measure_glyphs(texture) is None


def test_filled_shapes_are_no_signs():
    discs = np.zeros((50, 1, 28, 28), np.uint8)
    rows, columns = np.mgrid[:28, :28]
    discs[:, :, (rows - 14) ** 2 + (columns - 14) ** 2 < 64] = 255
    assert measure_glyphs(discs) is None


@pytest.mark.parametrize("count", [0, 5])
def test_no_images_and_empty_ones_have_no_layout(count):
    assert measure_glyphs(np.zeros((count, 1, 28, 28), np.uint8)) is None


def test_a_few_empty_images_among_signs_do_not_count(digits):
    assert measure_glyphs(np.concatenate([digits, np.zeros((20, 1, 8, 8), np.uint8)])) == measure_glyphs(digits)


@pytest.mark.parametrize("pen", [2, 3, 4])
def test_the_width_of_strokes_is_that_of_the_pen(pen):
    long = np.zeros((10, 1, 40, 200), np.uint8)
    long[:, :, 18 : 18 + pen, 10:190] = 255
    assert measure_glyphs(long).stroke == pytest.approx(pen, rel=0.03)


# --- laying out ------------------------------------------------------------------------------------------


def test_a_sign_gets_the_extent_and_keeps_its_proportions():
    assert box(place(frame(60, 30), MNIST, (28, 28)))[:2] == pytest.approx((20, 10), abs=2)
    assert box(place(frame(30, 60), MNIST, (28, 28)))[:2] == pytest.approx((10, 20), abs=2)


def test_the_middle_is_that_of_the_mass_or_of_the_box():
    lopsided = frame(60, 50) | frame(20, 30)
    assert mass(place(lopsided, MNIST, (28, 28))) == pytest.approx((0.5, 0.5), abs=0.01)
    _, _, *middle = box(place(lopsided, GlyphLayout(20 / 28, by_mass=False, stroke=2.36), (28, 28)))
    assert middle == pytest.approx((0.5, 0.5), abs=0.02)


def test_where_and_how_large_and_with_what_pen_somebody_draws_makes_no_difference():
    expected = place(frame(60, 40), MNIST, (28, 28))
    for moved in (frame(60, 40, corner=(0, 0)), frame(60, 40, corner=(40, 60)), frame(60, 40, paper=(300, 70))):
        assert np.array_equal(place(moved, MNIST, (28, 28)), expected)
    for other in (
        frame(600, 400, pen=40, paper=(700, 700)),
        frame(600, 400, pen=4, paper=(700, 700)),
        frame(60, 40, pen=8),
        frame(60, 40) // 3,
    ):
        assert np.abs(place(other, MNIST, (28, 28)).astype(int) - expected).mean() < 12


@pytest.mark.parametrize("stroke", [1.5, 2.5, 3.5])
def test_strokes_are_made_as_wide_as_those_of_the_dataset(stroke):
    laid = place(frame(60, 40), GlyphLayout(20 / 28, by_mass=True, stroke=stroke), (28, 28))
    assert measure_glyphs(laid[None]).stroke == pytest.approx(stroke, rel=0.05)


def test_an_empty_drawing_gives_an_empty_image():
    faint = np.full((50, 40), FOREGROUND - 1, np.uint8)
    for drawing in (np.zeros((50, 40), np.uint8), faint):
        assert not place(drawing, MNIST, (28, 20)).any()


def test_an_image_that_is_not_square_is_filled_to_the_extent_in_one_direction():
    height, width, *_ = box(place(frame(40, 40), GlyphLayout(0.5, by_mass=True, stroke=1.5), (20, 40)))
    assert (height, width) == (10, 10)


def test_a_line_of_a_million_pixels_needs_no_square_of_that_side():
    line = np.full((1, 1_000_000), 255, np.uint8)
    image = place(line, MNIST, (28, 28))
    assert image.shape == (1, 28, 28)


def test_any_drawing_becomes_an_image_of_the_size(long):
    @settings(max_examples=100 if long else 10, deadline=None)
    @given(
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.booleans(),
        st.floats(0.2, 1.0),
        st.floats(0.1, 5.0),
        st.integers(0, 2**32 - 1),
    )
    def check(paper, size, by_mass, extent, stroke, seed):
        drawing = np.random.default_rng(seed).choice(np.array([0, 0, 0, 90, 255], np.uint8), paper)
        image = place(drawing, GlyphLayout(extent, by_mass, stroke), size)
        assert image.shape == (1, *size)
        assert image.dtype == np.uint8

    check()


# --- the ground ----------------------------------------------------------------------------------------


def test_an_image_lies_on_what_most_of_its_border_is():
    images = np.zeros((3, 1, 6, 6), np.uint8)
    images[1, :, 1:-1, 1:-1] = 255  # light within
    images[2] = 255
    images[2, :, 2:4] = 0  # a line from edge to edge
    assert on_light(images).tolist() == [False, False, True]


def test_the_ground_is_common_only_if_every_image_has_it(digits):
    assert common_ground([digits]) == "dark"
    assert common_ground([255 - digits[:100], 255 - digits[100:]]) == "light"
    assert common_ground([digits, 255 - digits[:1]]) == "mixed"
