"""How signs are laid out: measured on published datasets, and given to drawings."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from darkroom.data.ink import INKED, Ink, measure_ink, place

MNIST = Ink(extent=20 / 28, by_mass=True)
DIGITS = Ink(extent=1.0, by_mass=False)


@pytest.fixture(scope="module")
def digits():
    return (load_digits().images * (255 / 16)).round().astype(np.uint8)[:, None]


def published(mirror, name):
    if mirror is None:
        pytest.skip("this machine has no mirror of the published archives")
    with gzip.open(mirror / name / "train-images-idx3-ubyte.gz") as opened:
        return np.frombuffer(opened.read(16 + 5000 * 784), np.uint8, offset=16).reshape(-1, 1, 28, 28)


def bar(height, width, *, paper=(100, 100), corner=(10, 20)):
    """A drawing with one filled rectangle."""
    drawing = np.zeros(paper, np.uint8)
    drawing[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = 255
    return drawing


def box(image):
    """Height and width of the box around the ink, and the shares of its middle; uint8 [1, H, W]."""
    rows, columns = np.flatnonzero((image[0] >= INKED).any(1)), np.flatnonzero((image[0] >= INKED).any(0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    return height, width, (rows[0] + height / 2) / image.shape[1], (columns[0] + width / 2) / image.shape[2]


def mass(image):
    """The centre of mass as shares of height and width; uint8 [1, H, W]."""
    weights = image[0] / image.sum()
    height, width = weights.shape
    return weights.sum(1) @ (np.arange(height) + 0.5) / height, weights.sum(0) @ (np.arange(width) + 0.5) / width


# --- measuring -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negative", [False, True])
def test_digits_fill_their_height(digits, negative):
    assert measure_ink(255 - digits if negative else digits) == DIGITS


def test_mnist_is_a_box_of_20_pixels_with_its_centre_of_mass_in_the_middle(mirror):
    found = measure_ink(published(mirror, "mnist"))
    assert found is not None
    assert found.by_mass
    assert found.extent == pytest.approx(20 / 28)


def test_clothes_are_no_signs(mirror):
    assert measure_ink(published(mirror, "fashion-mnist")) is None


def test_colour_has_no_layout(digits):
    assert measure_ink(digits.repeat(3, axis=1)) is None


def test_photographs_and_textures_are_no_signs():
    photograph = np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L"))
    patches = np.stack([photograph[y : y + 32, x : x + 32] for y in range(0, 384, 32) for x in range(0, 608, 32)])
    texture = np.random.default_rng(0).integers(0, 256, (200, 1, 32, 32), dtype=np.uint8)
    assert measure_ink(patches[:, None]) is None
    assert measure_ink(texture) is None


def test_filled_shapes_are_no_signs():
    discs = np.zeros((50, 1, 28, 28), np.uint8)
    rows, columns = np.mgrid[:28, :28]
    discs[:, :, (rows - 14) ** 2 + (columns - 14) ** 2 < 64] = 255
    assert measure_ink(discs) is None


@pytest.mark.parametrize("count", [0, 5])
def test_no_images_and_empty_ones_have_no_layout(count):
    assert measure_ink(np.zeros((count, 1, 28, 28), np.uint8)) is None


def test_a_few_empty_images_among_signs_do_not_count(digits):
    assert measure_ink(np.concatenate([digits, np.zeros((20, 1, 8, 8), np.uint8)])) == DIGITS


# --- laying out ------------------------------------------------------------------------------------------


def test_a_sign_gets_the_extent_and_keeps_its_proportions():
    assert box(place(bar(40, 20), MNIST, (28, 28)))[:2] == pytest.approx((20, 10), abs=1)
    assert box(place(bar(10, 60), MNIST, (28, 28)))[:2] == pytest.approx((3, 20), abs=1)


def test_the_middle_is_that_of_the_mass_or_of_the_box():
    lopsided = bar(60, 10, corner=(20, 20)) | bar(10, 40, corner=(70, 20))
    assert mass(place(lopsided, MNIST, (28, 28))) == pytest.approx((0.5, 0.5), abs=0.01)
    _, _, *middle = box(place(lopsided, Ink(20 / 28, by_mass=False), (28, 28)))
    assert middle == pytest.approx((0.5, 0.5), abs=0.02)


def test_the_place_and_the_size_of_a_drawing_do_not_matter():
    expected = place(bar(40, 20), MNIST, (28, 28))
    for moved in (bar(40, 20, corner=(0, 0)), bar(40, 20, corner=(60, 80)), bar(40, 20, paper=(300, 41))):
        assert np.array_equal(place(moved, MNIST, (28, 28)), expected)
    larger = place(bar(400, 200, paper=(500, 500)), MNIST, (28, 28))
    assert np.abs(larger.astype(int) - expected).max() <= 8


def test_an_empty_drawing_gives_an_empty_image():
    faint = np.full((50, 40), INKED - 1, np.uint8)
    for drawing in (np.zeros((50, 40), np.uint8), faint):
        assert not place(drawing, MNIST, (28, 20)).any()


def test_an_image_that_is_not_square_is_filled_to_the_extent_in_one_direction():
    height, width, *_ = box(place(bar(40, 40), Ink(0.5, by_mass=True), (20, 40)))
    assert (height, width) == (10, 10)


def test_a_line_of_a_million_pixels_needs_no_square_of_that_side():
    line = np.full((1, 1_000_000), 255, np.uint8)
    image = place(line, MNIST, (28, 28))
    assert image.shape == (1, 28, 28)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.booleans(),
    st.floats(0.2, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_any_drawing_becomes_an_image_of_the_size(paper, size, by_mass, extent, seed):
    drawing = np.random.default_rng(seed).choice(np.array([0, 0, 0, 90, 255], np.uint8), paper)
    image = place(drawing, Ink(extent, by_mass), size)
    assert image.shape == (1, *size)
    assert image.dtype == np.uint8
