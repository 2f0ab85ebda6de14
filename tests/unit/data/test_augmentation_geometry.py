"""Mirroring, shifting and turning a batch is what doing so to one image after the other gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from tests.unit.data.draws import seeded
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation import geometry
from darkroom.data.augmentation.geometry import affine, flip, random_affine, random_flip, random_translate, translate

PADDINGS = {"black": "constant", "edge": "edge", "reflect": "reflect"}
SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8))


# --- mirroring ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_a_flip_is_what_flipping_one_by_one_gives(shape, seed):
    images = noise(shape, seed)
    mirrored = np.random.default_rng(seed).random(len(images)) < 0.5
    expected = [image[:, :, ::-1] if turn else image for image, turn in zip(images.numpy(), mirrored, strict=True)]
    assert np.array_equal(flip(images, torch.from_numpy(mirrored)).numpy(), np.stack(expected))
    expected = [image[:, ::-1] if turn else image for image, turn in zip(images.numpy(), mirrored, strict=True)]
    assert np.array_equal(flip(images, torch.from_numpy(mirrored), -2).numpy(), np.stack(expected))


@pytest.mark.parametrize(("dimension", "size"), [(-1, (1, 2)), (-2, (2, 1))])
def test_about_half_of_the_images_are_flipped(dimension, size):
    images = torch.tensor([0, 1], dtype=torch.uint8).reshape(1, 1, *size).expand(1000, -1, -1, -1)
    flipped = int(random_flip(images, dimension, seeded(0))[:, 0, 0, 0].sum())
    # Five standard deviations of a fair coin.
    assert abs(flipped - 500) < 5 * 1000**0.5 / 2


# --- shifting ----------------------------------------------------------------------------------------


def shifted_one_by_one(images, shifts, largest, padding):
    height, width = images.shape[2:]
    sides = ((0, 0), (largest, largest), (largest, largest))
    moved = []
    for image, down, right in zip(images.numpy(), *shifts.tolist(), strict=True):
        padded = np.pad(image, sides, mode=PADDINGS[padding])
        row, column = largest - down, largest - right
        moved.append(padded[:, row : row + height, column : column + width])
    return np.stack(moved)


@pytest.mark.parametrize("padding", PADDINGS)
@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 20), SEEDS)
def test_a_shift_is_what_padding_and_cropping_one_by_one_gives(padding, shape, largest, seed):
    images = noise(shape, seed)
    shifts = torch.from_numpy(np.random.default_rng(seed).integers(-largest, largest + 1, (2, len(images))))
    found = translate(images, shifts, largest, padding)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), shifted_one_by_one(images, shifts, largest, padding))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("black", [[0, 0, 0], [0, 1, 2], [0, 4, 5]]),
        ("edge", [[1, 1, 2], [1, 1, 2], [4, 4, 5]]),
        ("reflect", [[5, 4, 5], [2, 1, 2], [5, 4, 5]]),
    ],
)
def test_a_shift_above_zero_goes_down_and_right(padding, expected):
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], dtype=torch.uint8)
    assert translate(image, torch.tensor([[1], [1]]), 2, padding).tolist() == [[expected]]


@pytest.mark.parametrize("padding", PADDINGS)
def test_every_shift_up_to_the_largest_is_equally_likely_and_none_beyond_occurs(padding):
    count = 2500
    images = torch.zeros(count, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 1
    moved = random_translate(images, 2, padding, seeded(0))
    assert (moved.sum(dim=(1, 2, 3)) == 1).all()
    times = moved.sum(dim=(0, 1))
    assert int(times[2:7, 2:7].sum()) == count
    # Five standard deviations of a die with 25 sides.
    assert ((times[2:7, 2:7] - count / 25).abs() < 5 * (count / 25) ** 0.5).all()


# --- turning, scaling and shearing -------------------------------------------------------------------


def amounts(count, seed):
    """Degrees, scales and shears of ``count`` images."""
    drawn = np.random.default_rng(seed).random((3, count))
    lows, highs = np.array([[-180.0], [0.3], [-60.0]]), np.array([[180.0], [3.0], [60.0]])
    return torch.from_numpy(lows + drawn * (highs - lows)).float()


def moved_one_by_one(images, degrees, scales, shears, fill):
    moved = [
        reference.affine(image, turn, [0, 0], size, [shear, 0.0], InterpolationMode.BILINEAR, fill)
        for image, turn, size, shear in zip(images, degrees.tolist(), scales.tolist(), shears.tolist(), strict=True)
    ]
    return torch.stack(moved)


def distance(first, second):
    return (first.int() - second.int()).abs()


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_an_affine_change_is_what_torchvision_makes_of_each_image(shape, seed):
    images, changes = noise(shape, seed), amounts(shape[0], seed)
    found = affine(images, *changes)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert distance(found, moved_one_by_one(images, *changes, fill=None)).max() <= 1


def test_torchvisions_fill_with_black_differs_only_where_a_pixel_lies_across_the_border():
    # There torchvision darkens twice: in the interpolation and again by the share that lies inside.
    images, changes = noise((40, 3, 31, 17)), amounts(40, 1)
    found, expected = affine(images, *changes), moved_one_by_one(images, *changes, fill=0)
    inside = affine(torch.full_like(images, 255), *changes)
    across = (inside > 0) & (inside < 255)
    assert distance(found, expected)[~across].max() <= 1
    assert (found >= expected - (expected > 0).byte())[across].all()


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_no_turn_scale_or_shear_leaves_images_as_they_are(shape, seed):
    images, none = noise(shape, seed), torch.zeros(shape[0])
    assert torch.equal(affine(images, none, none + 1, none), images)


@pytest.mark.parametrize(("degrees", "quarters"), [(90.0, -1), (-90.0, 1), (180.0, 2)])
@pytest.mark.parametrize("size", [6, 7])
def test_degrees_above_zero_turn_clockwise(degrees, quarters, size):
    images, zero = noise((3, 3, size, size)), torch.zeros(3)
    found = affine(images, zero + degrees, zero + 1, zero)
    assert np.array_equal(found.numpy(), np.rot90(images.numpy(), quarters, (2, 3)))


def test_half_the_size_leaves_a_black_frame_and_a_shear_moves_rows_against_each_other():
    white, one = torch.full((1, 1, 8, 12), 255, dtype=torch.uint8), torch.ones(1)
    small = affine(white, 0 * one, one / 2, 0 * one)[0, 0]
    assert small.nonzero().aminmax(dim=0)[0].tolist() == [2, 3]
    assert small.nonzero().aminmax(dim=0)[1].tolist() == [5, 8]
    line = torch.zeros(1, 1, 5, 9, dtype=torch.uint8)
    line[..., 4] = 255
    sheared = affine(line, 0 * one, one, 45 * one)[0, 0]
    assert torch.equal(sheared, 255 * torch.eye(9, dtype=torch.uint8)[[6, 5, 4, 3, 2]])


def test_affine_changes_are_drawn_evenly_within_their_limits_and_apart_from_each_other(monkeypatch):
    drawn = []
    monkeypatch.setattr(geometry, "affine", lambda images, *changes: drawn.extend(changes) or images)
    random_affine(torch.zeros(4000, 1, 1, 1, dtype=torch.uint8), 30.0, 0.25, 10.0, seeded(0))
    spreads = []
    for values, low, high in zip(drawn, (-30, 0.75, -10), (30, 1.25, 10), strict=True):
        assert low <= values.min()
        assert values.max() <= high
        assert kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 0.001
        spreads.append(values)
    correlations = torch.corrcoef(torch.stack(spreads)) - torch.eye(3)
    assert correlations.abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize("only", [(30.0, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, 0.0, 10.0)], ids=str)
def test_a_change_that_is_not_asked_for_is_not_made(monkeypatch, only):
    drawn = []
    monkeypatch.setattr(geometry, "affine", lambda images, *changes: drawn.extend(changes) or images)
    random_affine(torch.zeros(9, 1, 1, 1, dtype=torch.uint8), *only, seeded(0))
    still = [bool((values == neutral).all()) for values, neutral in zip(drawn, (0, 1, 0), strict=True)]
    assert still == [most == 0 for most in only]
