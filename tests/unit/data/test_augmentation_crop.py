"""A crop is what torchvision makes of each image, and is drawn as torchvision draws it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from tests.unit.data.draws import noise, seeded
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from darkroom.data.augmentation import crop as module
from darkroom.data.augmentation.crop import crop, random_crop

SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)


def rectangles(count, size, seed):
    """Top, left, height and width of a rectangle within each of ``count`` images of ``size``: int64 [4, N]."""
    generator = np.random.default_rng(seed)
    sides = np.stack([generator.integers(1, side + 1, count) for side in size])
    corners = generator.integers(0, np.array(size)[:, None] - sides + 1)
    return torch.from_numpy(np.concatenate([corners, sides]))


@pytest.fixture
def drawn(monkeypatch):
    """What is cut out by `random_crop`, which then cuts nothing: top, left, heights and widths."""
    found = []
    monkeypatch.setattr(module, "crop", lambda images, *given: found.extend(given) or images)
    return found


@pytest.mark.parametrize("antialias", [False, True])
@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_a_crop_is_what_torchvision_makes_of_each_image_with_or_without_antialiasing(antialias, shape, seed):
    images, given = noise(shape, seed), rectangles(shape[0], shape[2:], seed)
    expected = [
        reference.resized_crop(image, *box, list(shape[2:]), antialias=antialias)
        for image, box in zip(images, given.T.tolist(), strict=True)
    ]
    found = crop(images, *given)
    assert found.dtype == torch.uint8
    assert (found.int() - torch.stack(expected).int()).abs().max() <= 1


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_the_whole_image_stays_as_it_is(shape, seed):
    images, zero = noise(shape, seed), torch.zeros(shape[0], dtype=torch.int64)
    assert torch.equal(crop(images, zero, zero, zero + shape[2], zero + shape[3]), images)


@pytest.mark.parametrize("side", [1, 8, 33])
def test_a_crop_of_all_of_a_square_is_the_image_itself(side):
    images = noise((5, 3, side, side))
    assert torch.equal(random_crop(images, (1.0, 1.0), (1.0, 1.0), seeded(0)), images)


def test_nothing_from_outside_the_rectangle_is_seen():
    images = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    images[..., 2:5, 3:6] = 7
    found = crop(images, *torch.tensor([[2], [3], [3], [3]]))
    assert (found == 7).all()


@pytest.mark.parametrize("size", [(64, 64), (40, 60), (12, 90)], ids=str)
@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.6), (0.5, 2.0)), ((0.9, 1.0), (2.0, 3.0))], ids=str
)
def test_crops_are_drawn_as_torchvision_draws_them(drawn, size, scale, ratio):
    count = 3000
    torch.manual_seed(0)
    image = torch.empty(1, *size)
    expected = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])
    random_crop(torch.empty(count, 1, *size, dtype=torch.uint8), scale, ratio, seeded(0))
    top, left, heights, widths = (values.numpy() for values in drawn)
    assert (np.minimum(top, left) >= 0).all()
    assert (np.minimum(heights, widths) >= 1).all()
    assert (top + heights <= size[0]).all()
    assert (left + widths <= size[1]).all()
    # Also of what two of them make together: area, shape, and place within the space that is left.
    for found, other in zip(
        (top, left, heights, widths, heights * widths, widths / heights, top + heights, left + widths),
        (
            *expected.T,
            expected[:, 2] * expected[:, 3],
            expected[:, 3] / expected[:, 2],
            *(expected[:, :2] + expected[:, 2:]).T,
        ),
        strict=True,
    ):
        assert ks_2samp(found, other).pvalue > 0.001


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((8, 8), (1.0, 1.0), (0, 0, 8, 8)),
        ((8, 20), (0.5, 1.5), (0, 4, 8, 12)),
        ((20, 8), (1.0, 1.5), (6, 0, 8, 8)),
        ((2, 90), (0.01, 0.01), (0, 44, 2, 1)),
        ((90, 2), (100.0, 100.0), (44, 0, 1, 2)),
    ],
    ids=str,
)
def test_where_no_size_fits_the_largest_central_one_is_taken(drawn, size, ratio, expected):
    random_crop(torch.empty(50, 1, *size, dtype=torch.uint8), (1.0, 1.0), ratio, seeded(0))
    assert torch.stack(drawn).T.unique(dim=0).tolist() == [list(expected)]
