"""A policy makes one change of each image, and each change is what torchvision makes of that image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from tests.unit.data.draws import noise
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import TrivialAugmentWide
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation.policy import OPERATIONS, random_policy

BILINEAR = {"interpolation": InterpolationMode.BILINEAR}
STILL = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
SIZES = st.tuples(st.integers(1, 8), st.sampled_from([1, 3]), st.integers(3, 12), st.integers(3, 12))
SEEDS = st.integers(0, 2**31 - 1)


def smooth(shape, seed):
    """Images whose neighboring pixels are alike, as rounding moves a place by a hair."""
    small = noise((*shape[:2], 3, 3), seed).float()
    return interpolate(small, shape[2:], mode="bilinear", align_corners=True).round().to(torch.uint8)


def tilt(strength):
    return math.degrees(math.atan(0.99 * strength))


# What torchvision makes of an image by a strength, whose sign says which way.
BY_TORCHVISION = {
    "keep": lambda image, strength: image,
    "shear rows": lambda image, strength: reference.affine(
        image, **STILL | {"shear": [tilt(strength), 0.0]}, **BILINEAR
    ),
    "shear columns": lambda image, strength: (
        reference.affine(image.mT, **STILL | {"shear": [tilt(strength), 0.0]}, **BILINEAR).mT
    ),
    "shift right": lambda image, strength: reference.affine(
        image, **STILL | {"translate": [int(min(32, image.shape[-1] // 3) * strength), 0]}
    ),
    "shift down": lambda image, strength: reference.affine(
        image, **STILL | {"translate": [0, int(min(32, image.shape[-2] // 3) * strength)]}
    ),
    "rotate": lambda image, strength: reference.affine(image, **STILL | {"angle": 135.0 * strength}, **BILINEAR),
    "brightness": lambda image, strength: reference.adjust_brightness(image, 1 + 0.99 * strength),
    "saturation": lambda image, strength: reference.adjust_saturation(image, 1 + 0.99 * strength),
    "contrast": lambda image, strength: reference.adjust_contrast(image, 1 + 0.99 * strength),
    "sharpness": lambda image, strength: reference.adjust_sharpness(image, 1 + 0.99 * strength),
    "posterize": lambda image, strength: reference.posterize(image, 8 - round(6 * abs(strength))),
    "solarize": lambda image, strength: reference.solarize(image, 255 * (1 - abs(strength))),
    "autocontrast": lambda image, strength: reference.autocontrast(image),
    "equalize": lambda image, strength: reference.equalize(image),
}
# Where torchvision cuts fractions off that are rounded here; turned and sheared pixels come from slightly other places.
OFF_BY = dict.fromkeys(["brightness", "saturation", "contrast", "sharpness"], 1) | dict.fromkeys(
    ["rotate", "shear rows", "shear columns"], 2
)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(SIZES, SEEDS)
def test_an_operation_is_what_torchvision_makes_of_each_image(name, shape, seed):
    images, random = smooth(shape, seed), np.random.default_rng(seed)
    strengths = torch.from_numpy(random.integers(0, 31, shape[0]) / 30).float()
    signs = torch.from_numpy(random.choice([-1, 1], shape[0]))
    expected = torch.stack(
        [
            BY_TORCHVISION[name](image, strength)
            for image, strength in zip(images, (strengths * signs).tolist(), strict=True)
        ]
    )
    found = OPERATIONS[name](images, strengths, signs)

    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    assert (found.int() - expected.int()).abs().max() <= OFF_BY.get(name, 0)


def test_the_operations_are_those_of_torchvision():
    space = TrivialAugmentWide()._AUGMENTATION_SPACE
    given = {name: strengths(31, 224, 224) for name, (strengths, _) in space.items()}
    strongest = {name: float(strengths.view(-1)[-1]) for name, strengths in given.items() if strengths is not None}
    assert len(OPERATIONS) == len(space)
    assert strongest["Rotate"] == 135
    for name in ("ShearX", "ShearY", "Color", "Brightness", "Contrast", "Sharpness"):
        assert strongest[name] == pytest.approx(0.99)
    assert (strongest["TranslateX"], strongest["Posterize"], strongest["Solarize"]) == (32, 2, 0)


@pytest.fixture
def made(monkeypatch):
    """Record the images, numbered from 0, strengths and signs that each operation is given."""
    used = {name: [] for name in OPERATIONS}

    def recorder(name):
        def record(images, strengths, signs):
            used[name].append((images.flatten().tolist(), strengths, signs))
            return images + 100

        return record

    for name in used:
        monkeypatch.setitem(OPERATIONS, name, recorder(name))

    def make(count, seed):
        images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
        found = random_policy(images, torch.Generator().manual_seed(seed))
        assert torch.equal(found, images + 100)
        return used

    return make


@pytest.mark.parametrize("count", [1, 5, 14, 33, 100])
def test_each_image_has_one_operation_and_each_operation_its_share(made, count):
    used = made(count, 0)
    given = [images for ((images, _, _),) in used.values()]
    assert {image for images in given for image in images} == set(range(count))
    assert {len(images) for images in given} == {-(-count // 14)}


def test_strengths_and_signs_are_drawn_evenly(made):
    for seed in range(40):
        used = made(100, seed)
    calls = [call for name in used for call in used[name]]
    strengths, signs = torch.cat([each for _, each, _ in calls]), torch.cat([each for _, _, each in calls])
    levels, counts = (30 * strengths).round().unique(return_counts=True)
    assert levels.tolist() == list(range(31))
    assert chisquare(counts).pvalue > 1e-3
    assert set(signs.tolist()) == {-1, 1}
    assert binomtest(int((signs > 0).sum()), len(signs)).pvalue > 1e-3


def test_every_operation_comes_to_a_single_image_equally_often(monkeypatch):
    for number, name in enumerate(OPERATIONS):
        monkeypatch.setitem(OPERATIONS, name, lambda images, strengths, signs, number=number: images + number)
    image = torch.zeros((1, 1, 1, 1), dtype=torch.uint8)
    found = [int(random_policy(image, torch.Generator().manual_seed(seed))) for seed in range(1400)]
    assert chisquare(np.bincount(found, minlength=14)).pvalue > 1e-3
