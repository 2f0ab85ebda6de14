"""Mixed images: what each shows of which image is what its target says."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.stats import ks_2samp
from tests.unit.data.draws import noise, seeded

from darkroom.config.settings import Augment
from darkroom.data.augmentation import mixing
from darkroom.data.augmentation.mixing import Target, blend, mix, mix_together, paste

SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**31 - 1)
MIXES = {"mixup": {"mixup": 1.0}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 1.0, "cutmix": 1.0}}
each_mix = pytest.mark.parametrize("mixes", MIXES.values(), ids=MIXES)


def constant(count, value, size=(6, 8)):
    return torch.full((count, 1, *size), value, dtype=torch.uint8)


# --- blending ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_a_blend_is_what_blending_one_by_one_gives(shape, seed):
    images, partners = noise(shape, seed), noise(shape, seed + 1)
    share = torch.from_numpy(np.random.default_rng(seed).random(shape[0])).float()
    found = blend(images, partners, share)
    assert found.dtype == torch.uint8
    for number, weight in enumerate(share.tolist()):
        exact = images[number].numpy() * weight + partners[number].numpy() * (1 - weight)
        # To the nearest level.
        assert np.abs(found[number].numpy() - exact).max() <= 0.501


def test_a_whole_share_blends_nothing_and_none_gives_the_partner():
    images, partners = noise((2, 3, 5, 4), 0), noise((2, 3, 5, 4), 1)
    found = blend(images, partners, torch.tensor([1.0, 0.0]))
    assert torch.equal(found, torch.stack([images[0], partners[1]]))


# --- pasting -----------------------------------------------------------------------------------------


def pasted_one_by_one(image, partner, row, column, height, width):
    """``image`` with the part of ``partner`` about a center, and the share of its pixels that is left."""
    found, left = image.copy(), 0
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            if 0 <= y - row + height // 2 < height and 0 <= x - column + width // 2 < width:
                found[:, y, x] = partner[:, y, x]
            else:
                left += 1
    return found, left / image[0].size


@pytest.mark.parametrize(
    ("share", "height", "width"), [(0.75, 3, 4), (0.4375, 4, 6), (0.9375, 1, 2), (0.0, 6, 8), (1.0, 0, 0)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_rectangle_in_proportion_is_pasted_about_any_pixel_all_equally_likely(share, height, width, channels):
    count, size = 4800, (6, 8)
    image, partner = noise((channels, *size), 0).numpy(), noise((channels, *size), 1).numpy()
    # Distinct in every pixel, so that what is pasted can be told.
    partner = np.where(partner == image, partner ^ 1, partner)
    expected, ways = {}, Counter()
    for row in range(size[0]):
        for column in range(size[1]):
            one, left = pasted_one_by_one(image, partner, row, column, height, width)
            expected[one.tobytes()] = left
            ways[one.tobytes()] += 1
    batches = (torch.from_numpy(each).expand(count, -1, -1, -1) for each in (image, partner))
    found, kept = paste(*batches, torch.full((count,), share), seeded(0))
    assert found.dtype == torch.uint8
    times = Counter(one.numpy().tobytes() for one in found)
    assert times.keys() == expected.keys()
    for one, left in zip(found, kept.tolist(), strict=True):
        assert left == pytest.approx(expected[one.numpy().tobytes()], abs=1e-6)
    for key, number in times.items():
        chance = ways[key] / 48
        # Five standard deviations of a die with 48 sides.
        assert abs(number - count * chance) <= 5 * (count * chance * (1 - chance)) ** 0.5


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_the_share_of_a_pasted_image_is_the_share_of_its_pixels(shape, seed):
    share = torch.from_numpy(np.random.default_rng(seed).random(shape[0])).float()
    images = torch.zeros(shape, dtype=torch.uint8)
    found, left = paste(images, images + 255, share, seeded(seed))
    assert ((found == 0) | (found == 255)).all()
    assert torch.allclose(left, (found == 0).float().mean((1, 2, 3)), atol=1e-6)
    # The rectangle is rounded down and cut off: never more is pasted than asked for.
    assert (left >= share - 1e-6).all()


# --- mixing a batch ----------------------------------------------------------------------------------


@each_mix
@pytest.mark.parametrize("shape", [(9, 1, 6, 5), (8, 3, 5, 7), (1, 3, 4, 4)], ids=str)
def test_mixing_keeps_the_originals_and_shape_type_and_labels(mixes, shape):
    images, labels = noise(shape), torch.arange(shape[0])
    before = images.clone()
    mixed, target = mix(images, labels, Augment(**mixes), seeded(0))
    assert (mixed.shape, mixed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(target.labels, torch.arange(shape[0]))
    assert torch.equal(target.partners, (torch.arange(shape[0]) - 1) % shape[0])
    assert target.share.shape == (shape[0],)
    mixed.zero_()
    assert torch.equal(images, before)


@each_mix
def test_the_same_state_mixes_the_same_and_another_mixes_otherwise(mixes):
    images, labels = noise((16, 1, 8, 8)), torch.arange(16)
    (first, one), (second, two), (other, _) = (
        mix(images, labels, Augment(**mixes), seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert torch.equal(one.share, two.share)
    assert not torch.equal(first, other)


@each_mix
def test_an_image_alone_is_mixed_with_itself_and_stays_as_it_is(mixes):
    images = noise((1, 3, 5, 5))
    assert torch.equal(mix(images, torch.tensor([4]), Augment(**mixes), seeded(0))[0], images)


@settings(max_examples=60, deadline=None)
@given(SIZES, SEEDS)
def test_mixup_blends_each_image_with_the_one_before_it(shape, seed):
    images, labels = noise(shape, seed), torch.arange(shape[0])
    mixed, target = mix(images, labels, Augment(mixup=0.7), seeded(seed))
    pairs = zip(images, images[target.partners], target.share.unsqueeze(1), strict=True)
    expected = torch.cat([blend(image[None], partner[None], share) for image, partner, share in pairs])
    assert torch.equal(mixed, expected)


@settings(max_examples=30, deadline=None)
@given(SIZES, SEEDS, st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=4), st.booleans())
def test_batches_that_are_mixed_together_are_what_each_is_alone(shape, seed, alphas, of_features):
    images = torch.stack([noise(shape, seed + number) for number in range(len(alphas))])
    images = images.double() / 7 if of_features else images
    labels = torch.arange(len(alphas) * shape[0]).view(len(alphas), -1)
    changes = [Augment(mixup=alpha) for alpha in alphas]
    mixed, targets = mix_together(images, labels, changes, [seeded(number) for number in range(len(alphas))])
    for number, (alpha, change) in enumerate(zip(alphas, changes, strict=True)):
        alone, target = mix(images[number], labels[number], change, seeded(number))
        assert torch.equal(mixed[number], alone)
        assert torch.equal(targets[number].share, target.share)
        assert torch.equal(targets[number].labels, labels[number])
        if alpha:
            assert torch.equal(targets[number].partners, target.partners)


def test_cutmix_pastes_into_each_image_from_the_one_before_it():
    images = torch.arange(0, 200, 10, dtype=torch.uint8)[:, None, None, None].expand(20, 3, 9, 7)
    mixed, target = mix(images, torch.arange(20), Augment(cutmix=1.0), seeded(0))
    for number in range(20):
        own, other = number * 10, (number - 1) % 20 * 10
        assert set(mixed[number].unique().tolist()) <= {own, other}
        assert float(target.share[number]) == pytest.approx(float((mixed[number] == own).float().mean()), abs=1e-6)
    assert ((target.share > 0) & (target.share < 1)).sum() > 10


def test_with_both_each_image_is_either_blended_or_pasted_into_with_equal_chances():
    count = 1000
    images = torch.cat([constant(count // 2, 0), constant(count // 2, 200)]).reshape(2, -1, 1, 6, 8)
    images = images.transpose(0, 1).flatten(0, 1)  # every other one is light, so that partners differ
    # Of about a half each, so that no blend looks like either image and no paste covers all or nothing.
    mixed, target = mix(images, torch.arange(count), Augment(mixup=10.0, cutmix=10.0), seeded(0))
    whole = ((mixed == 0) | (mixed == 200)).all(dim=(1, 2, 3))
    even = (mixed == mixed[:, :, :1, :1]).all(dim=(1, 2, 3))
    assert (whole ^ even).all()
    # What is shown of light and dark together is what the share says, to the rounding of a blend.
    shown = mixed.double().mean((1, 2, 3)) / 200
    own = (images[:, 0, 0, 0] > 0).double()
    assert (shown - (own * target.share + (1 - own) * (1 - target.share))).abs().max() < 0.6 / 200
    # Five standard deviations of a fair coin.
    assert abs(int(even.sum()) - count / 2) < 5 * count**0.5 / 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_shares_are_drawn_from_the_beta_distribution(monkeypatch, key, alpha):
    drawn = []
    # What is pasted is cut off at the edges, so its share is looked at before.
    monkeypatch.setattr(mixing, "paste", lambda images, partners, share, *_: drawn.append(share) or (images, share))
    _, target = mix(constant(20_000, 0, (1, 1)), torch.zeros(20_000), Augment(**{key: alpha}), seeded(0))
    shares = drawn[0] if key == "cutmix" else target.share
    assert len(drawn) == (key == "cutmix")
    # In single precision, as the shares are: near 1 it takes many values together.
    expected = np.random.default_rng(0).beta(alpha, alpha, 20_000).astype(np.float32)
    assert ks_2samp(shares.numpy(), expected).pvalue > 0.001


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-9, 10), st.sampled_from(["mixup", "cutmix"]))
def test_shares_lie_between_none_and_all_at_any_alpha(alpha, key):
    _, target = mix(constant(50, 0), torch.zeros(50), Augment(**{key: alpha}), seeded(0))
    assert ((target.share >= 0) & (target.share <= 1)).all()


def test_each_of_hundreds_of_trials_has_its_distribution_computed_once(monkeypatch):
    mixing._quantiles.cache_clear()  # other tests have drawn too
    computed = []
    real = special.betaincinv
    monkeypatch.setattr(special, "betaincinv", lambda alpha, *others: computed.append(alpha) or real(alpha, *others))
    alphas = [2 + number / 1000 for number in range(300)]
    for alpha in alphas * 2:
        mix(constant(2, 0), torch.zeros(2), Augment(mixup=alpha), seeded(0))
    assert computed == alphas


# --- targets -----------------------------------------------------------------------------------------


def test_the_dominant_class_is_that_of_the_larger_share():
    target = Target(torch.tensor([1, 2, 3, 4, 5]), torch.tensor([6, 7, 8, 9, 5]), torch.tensor([1, 0, 0.51, 0.49, 0.2]))
    assert target.dominant.tolist() == [1, 7, 3, 9, 5]


def test_the_dominant_class_of_images_that_are_not_mixed_is_their_own():
    labels = torch.tensor([3, 1])
    assert Target(labels).dominant is labels


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 25), st.booleans())
def test_a_target_is_cut_into_the_same_parts_as_its_images(count, parts, mixed):
    images, labels = torch.arange(count) * 2, torch.arange(count)
    target = Target(labels, labels + 100, labels / count) if mixed else Target(labels)
    pairs = list(zip(images.chunk(parts), target.chunk(parts), strict=True))
    assert sum(len(part.labels) for _, part in pairs) == count
    for some, part in pairs:
        assert torch.equal(part.labels * 2, some)
        if mixed:
            assert torch.equal(part.partners, part.labels + 100)
            assert torch.equal(part.share, part.labels / count)
        else:
            assert (part.partners, part.share) == (None, None)
