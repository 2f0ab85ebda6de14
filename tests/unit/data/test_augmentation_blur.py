"""A blurred batch is what torchvision's Gaussian blur makes of each image with a sigma of its own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from tests.unit.data.draws import noise
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation import blur as module
from darkroom.data.augmentation.blur import REACH, blur, random_blur

SEEDS = st.integers(0, 2**31 - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(4, 12), st.integers(4, 12), st.integers(1, 3), SEEDS)
def test_a_blur_is_what_torchvision_makes_of_each_image(count, channels, height, width, radius, seed):
    images = noise((count, channels, height, width), seed)
    sigmas = torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 3, count)).float()
    expected = [
        reference.gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2)
        for image, sigma in zip(images, sigmas.tolist(), strict=True)
    ]
    found = blur(images, sigmas, radius)
    assert found.dtype == torch.uint8
    assert (found.int() - torch.stack(expected).int()).abs().max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 6), SEEDS)
def test_a_blur_that_reaches_beyond_the_image_meets_its_reflections(height, width, sigma, seed):
    images, radius = noise((2, 1, height, width), seed), math.ceil(REACH * sigma)
    found = blur(images, torch.full((2,), sigma), radius)
    for image, one in zip(images[:, 0].double().numpy(), found[:, 0].numpy(), strict=True):
        # scipy calls it mirror, and numpy reflect.
        exact = gaussian_filter(image, sigma, mode="mirror", radius=radius)
        assert np.abs(one - exact).max() <= 0.51


def test_no_blur_leaves_images_as_they_are():
    images = noise((4, 3, 7, 5))
    assert torch.equal(blur(images, torch.zeros(4), 3), images)


@pytest.mark.parametrize("most", [0.5, 2.0])
def test_the_sigma_is_drawn_evenly_up_to_its_limit_and_the_weights_reach_three_of_the_largest(monkeypatch, most):
    drawn = []
    monkeypatch.setattr(module, "blur", lambda images, *given: drawn.extend(given) or images)
    random_blur(torch.zeros(4000, 1, 1, 1, dtype=torch.uint8), most, torch.Generator().manual_seed(0))
    sigmas, radius = drawn
    assert kstest(sigmas.numpy(), "uniform", (0, most)).pvalue > 0.001
    assert radius == math.ceil(3 * most)
