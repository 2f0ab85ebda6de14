"""Brightness and contrast of a batch: as torchvision defines them, each image by a factor of its own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation.color import brighten, contrast, random_brightness, random_contrast

SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def factors(count, seed):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 2, count)).float()


@pytest.mark.parametrize(
    ("change", "by_torchvision"),
    [(brighten, reference.adjust_brightness), (contrast, reference.adjust_contrast)],
    ids=["brightness", "contrast"],
)
@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_a_change_is_what_torchvision_makes_of_each_image(change, by_torchvision, shape, seed):
    images, shares = noise(shape, seed), factors(shape[0], seed)
    expected = torch.stack([by_torchvision(*pair) for pair in zip(images, shares.tolist(), strict=True)])
    found = change(images, shares)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    # torchvision cuts fractions off.
    assert (found.int() - expected.int()).abs().max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), SEEDS)
def test_values_are_rounded_to_the_nearest_and_end_at_black_and_white(height, width, seed):
    images, shares = noise((4, 1, height, width), seed), factors(4, seed)
    for number, (image, share) in enumerate(zip(images.numpy().astype(float), shares.tolist(), strict=True)):
        for found, exact in (
            (brighten(images, shares), image * share),
            (contrast(images, shares), image.mean() + (image - image.mean()) * share),
        ):
            assert np.abs(found[number].numpy() - exact.clip(0, 255)).max() <= 0.501


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", [brighten, contrast])
def test_a_factor_of_one_leaves_images_as_they_are(change, channels):
    images = noise((5, channels, 6, 7))
    assert torch.equal(change(images, torch.ones(5)), images)


@pytest.mark.parametrize("most", [0.25, 1.0])
def test_brightness_is_drawn_evenly_within_its_limits(most):
    gray = torch.full((4000, 1, 1, 1), 100, dtype=torch.uint8)
    assert_even(random_brightness(gray, most, seeded(0)).flatten(), 100 * (1 - most), 100 * (1 + most))


@pytest.mark.parametrize("most", [0.25, 1.0])
def test_contrast_is_drawn_evenly_within_its_limits(most):
    # Factors of up to 2 keep both pixels within 0 to 255.
    images = torch.tensor([[78, 178]], dtype=torch.uint8).expand(4000, 1, 1, 2)
    dark, light = random_contrast(images, most, seeded(0)).int().unbind(-1)
    assert ((dark + light) == 256).all()
    assert_even((light - 128).flatten(), 50 * (1 - most), 50 * (1 + most))


def assert_even(values, low, high):
    """Of whole numbers from ``low`` to ``high`` each tenth holds about a tenth, and none is outside."""
    values = values.double()
    # To round takes up to half a level.
    assert low - 0.5 <= values.min()
    assert values.max() <= high + 0.5
    for tenth in range(1, 10):
        edge = low + (high - low) * tenth / 10
        below = ((values < edge).double() + (values <= edge).double()).mean() / 2
        # Five standard deviations, and a value of a level counts to one side of the edge or the other.
        assert abs(below - tenth / 10) < 5 * (0.25 / len(values)) ** 0.5 + 0.5 / (high - low)
