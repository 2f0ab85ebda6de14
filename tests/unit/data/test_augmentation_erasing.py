"""Blanking: one rectangle in each image takes the image's mean color, wherever it lies."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from tests.unit.data.draws import seeded

from darkroom.data.augmentation.erasing import AREAS, RATIOS, blank, boxes, random_cutout, random_erasing

SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)


def black_and_white(shape, seed=0):
    """Images of two colors in equal parts, so that their mean is neither of them."""
    count, *image = shape
    half = np.arange(np.prod(image)) % 2 * 255
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([generator.permutation(half).reshape(image) for _ in range(count)])).byte()


def blanked(images):
    """Where black and white images are blank: bool [N, H, W]."""
    return ((images != 0) & (images != 255)).all(dim=1)


def rectangle_one_by_one(size, top, left, height, width):
    inside = np.zeros(size, dtype=bool)
    for row in range(size[0]):
        for column in range(size[1]):
            inside[row, column] = top <= row < top + height and left <= column < left + width
    return inside


# --- rectangles --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)), st.data())
def test_rectangles_are_those_drawn_one_by_one_and_cut_off_at_the_edges(size, data):
    places, sides = st.integers(-12, 12), st.integers(0, 12)
    corners = data.draw(st.lists(st.tuples(places, places, sides, sides), min_size=1, max_size=8))
    found = boxes(size, *torch.tensor(corners).T)
    assert found.dtype == torch.bool
    assert np.array_equal(found[:, 0].numpy(), np.stack([rectangle_one_by_one(size, *corner) for corner in corners]))


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_what_is_blanked_takes_the_mean_color_of_its_image(shape, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    where = generator.random((shape[0], 1, *shape[2:])) < 0.5
    expected = images.copy()
    for image, mask in zip(expected, where, strict=True):
        for channel in image:
            channel[mask[0]] = np.rint(channel.mean())
    found = blank(torch.from_numpy(images), torch.from_numpy(where))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)


# --- cutout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_a_cutout_is_a_square_about_any_pixel_all_equally_likely(side):
    size, count = (6, 7), 4200
    found = blanked(random_cutout(black_and_white((count, 1, *size)), side, seeded(0)))
    expected = [
        rectangle_one_by_one(size, row - side // 2, column - side // 2, side, side).tobytes()
        for row in range(size[0])
        for column in range(size[1])
    ]
    assert len(set(expected)) == 42, "each center has a mask of its own"
    times = Counter(mask.numpy().tobytes() for mask in found)
    assert times.keys() == set(expected)
    # Five standard deviations of a die with 42 sides.
    assert all(abs(number - count / 42) < 5 * (count / 42) ** 0.5 for number in times.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_cutout_leaves_the_rest_as_it_was_and_takes_the_mean_color(channels):
    images = black_and_white((20, channels, 8, 8))
    found = random_cutout(images, 3, seeded(0))
    where = blanked(found)[:, None]
    assert torch.equal(found, blank(images, where))
    assert where.any(dim=(1, 2, 3)).all()


# --- random erasing ----------------------------------------------------------------------------------


def erased(size, count=1000, probability=1.0, channels=1):
    """First row and column, height and width of the blank part of each image: int64 [4, N], and [N] its pixels."""
    found = blanked(random_erasing(black_and_white((count, channels, *size)), probability, seeded(0)))
    rows, columns = found.any(dim=2).int(), found.any(dim=1).int()
    return torch.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)]), found.sum(dim=(1, 2))


@pytest.mark.parametrize("size", [(40, 40), (30, 50), (8, 8), (2, 20)], ids=str)
def test_what_is_erased_is_a_rectangle_of_a_limited_area_and_shape(size):
    (top, left, heights, widths), pixels = erased(size)
    assert torch.equal(heights * widths, pixels), "rectangles"
    assert (pixels > 0).all()
    assert (top + heights <= size[0]).all()
    assert (left + widths <= size[1]).all()
    # Each side is rounded to whole pixels, takes at least one, and ends at the image's own.
    area = size[0] * size[1]
    within_height, within_width = heights < size[0], widths < size[1]
    assert ((heights - 0.5) * (widths - 0.5) <= AREAS[1] * area)[(heights > 1) & (widths > 1)].all()
    assert ((heights + 0.5) * (widths + 0.5) >= AREAS[0] * area)[within_height & within_width].all()
    assert ((heights - 0.5) <= RATIOS[1] * (widths + 0.5))[(heights > 1) & within_width].all()
    assert ((widths - 0.5) <= (heights + 0.5) / RATIOS[0])[(widths > 1) & within_height].all()


def test_an_image_of_one_pixel_is_erased_without_harm():
    images = torch.full((5, 1, 1, 1), 7, dtype=torch.uint8)
    assert torch.equal(random_erasing(images, 1.0, seeded(0)), images)


def test_erased_areas_and_shapes_are_drawn_evenly_and_apart_from_each_other():
    (_, _, heights, widths), pixels = erased((100, 100))
    shares = (pixels / 10_000).numpy()
    assert kstest(shares, "uniform", (AREAS[0], AREAS[1] - AREAS[0])).pvalue > 0.001
    shapes = (heights / widths).log().numpy()
    low, high = np.log(RATIOS)
    assert kstest(shapes, "uniform", (low, high - low)).pvalue > 0.001
    # Five standard deviations of the correlation of what is drawn apart.
    assert abs(np.corrcoef(shares, shapes)[0, 1]) < 5 / len(shares) ** 0.5


def test_erased_rectangles_lie_anywhere():
    (top, left, heights, widths), _ = erased((40, 40))
    for first, side in ((top, heights), (left, widths)):
        free = 40 - side
        # Of the places that a rectangle has, the middle of each stands for it.
        places = ((first + 0.5) / (free + 1))[free > 10]
        assert kstest(places.numpy(), "uniform").pvalue > 0.001
        assert (first == 0).any()
        assert (first == free).any()


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_as_many_images_as_the_probability_says_are_erased(probability, channels):
    _, pixels = erased((12, 12), probability=probability, channels=channels)
    share = float((pixels > 0).double().mean())
    # Five standard deviations of a biased coin: none at 0 and at 1.
    assert abs(share - probability) <= 5 * (probability * (1 - probability) / 1000) ** 0.5


def test_which_images_are_erased_does_not_depend_on_the_area():
    _, pixels = erased((100, 100), probability=0.5)
    shares = (pixels[pixels > 0] / 10_000).numpy()
    assert kstest(shares, "uniform", (AREAS[0], AREAS[1] - AREAS[0])).pvalue > 0.001
