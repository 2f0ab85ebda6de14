"""Brightness, contrast, saturation and hue of a batch: as torchvision defines them, each image by its own amount."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from tests.unit.data.draws import noise, seeded
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation import color
from darkroom.data.augmentation.color import (
    brighten,
    contrast,
    random_brightness,
    random_contrast,
    random_hue,
    random_saturation,
    saturate,
    turn_hue,
)

SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)


def factors(count, seed):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 2, count)).float()


@pytest.mark.parametrize(
    ("change", "by_torchvision"),
    [
        (brighten, reference.adjust_brightness),
        (contrast, reference.adjust_contrast),
        (saturate, reference.adjust_saturation),
    ],
    ids=["brightness", "contrast", "saturation"],
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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), SEEDS)
def test_a_turn_of_the_hue_is_what_torchvision_makes_of_each_image(count, height, width, seed):
    images = noise((count, 3, height, width), seed)
    turns = torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, count)).float()
    expected = [reference.adjust_hue(*pair) for pair in zip(images, turns.tolist(), strict=True)]
    found = turn_hue(images, turns)
    assert found.dtype == torch.uint8
    assert (found.int() - torch.stack(expected).int()).abs().max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3), st.floats(-0.5, 0.5))
def test_a_turned_hue_is_that_of_pythons_own_conversion(pixel, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    exact = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    found = turn_hue(torch.tensor(pixel, dtype=torch.uint8).reshape(1, 3, 1, 1), torch.tensor([turn]))
    assert np.abs(found.flatten().numpy() - np.array(exact)).max() <= 0.51


@pytest.mark.parametrize(("turn", "expected"), [(1 / 3, [10, 200, 50]), (-1 / 3, [50, 10, 200]), (0.5, [10, 160, 200])])
def test_a_third_of_a_turn_leads_from_red_to_green_and_a_half_to_the_complement(turn, expected):
    images = torch.tensor([200, 50, 10], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert turn_hue(images, torch.tensor([turn])).flatten().tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.floats(-0.5, 0.5))
def test_grays_have_no_hue_to_turn(level, turn):
    images = torch.full((1, 3, 2, 2), level, dtype=torch.uint8)
    assert torch.equal(turn_hue(images, torch.tensor([turn])), images)


def test_no_turn_leaves_images_as_they_are_and_no_saturation_leaves_grays():
    images = noise((20, 3, 9, 8))
    assert torch.equal(turn_hue(images, torch.zeros(20)), images)
    gray = saturate(images, torch.zeros(20))
    assert torch.equal(gray, gray[:, :1].expand_as(gray))


@pytest.mark.parametrize(
    ("change", "kind", "middle"), [(random_saturation, "saturate", 1), (random_hue, "turn_hue", 0)]
)
@pytest.mark.parametrize("most", [0.1, 0.5])
def test_saturation_and_hue_are_drawn_evenly_within_their_limits(monkeypatch, change, kind, middle, most):
    drawn = []
    monkeypatch.setattr(color, kind, lambda images, amounts: drawn.append(amounts) or images)
    change(torch.zeros(4000, 3, 1, 1, dtype=torch.uint8), most, seeded(0))
    assert kstest(drawn[0].numpy(), "uniform", (middle - most, 2 * most)).pvalue > 0.001


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("change", [brighten, contrast, saturate])
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
