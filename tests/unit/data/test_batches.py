"""Batches for training: every image once an epoch, in an order and with changes that a seed decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.data.augmentation import augment, random_flip, random_translate
from darkroom.data.batches import Split, TrainBatches, in_order
from darkroom.settings import Augment

PLAIN = Augment()
CHANGED = Augment(flip="random", translate=2)
SIZES = st.tuples(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8))


def numbered(count):
    """A split whose labels are the numbers of its rows."""
    return Split(noise((count, 1, 4, 4)), torch.arange(count))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def epoch(batches):
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


# --- order -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_an_epoch_holds_every_image_once_with_its_label(count, batch_size, seed):
    split = numbered(count)
    images, labels = epoch(TrainBatches(split, batch_size, PLAIN, seed))
    assert sorted(labels.tolist()) == list(range(count))
    assert torch.equal(images, split.images[labels])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60))
def test_batches_are_of_the_size_asked_for_but_for_the_last(count, batch_size):
    batches = TrainBatches(numbered(count), batch_size, PLAIN, 0)
    sizes = [len(labels) for _, labels in batches]
    assert len(sizes) == len(batches)
    assert sum(sizes) == count
    assert all(size == min(batch_size, count) for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size


def test_each_epoch_has_another_order():
    batches = TrainBatches(numbered(50), 8, PLAIN, 0)
    orders = {tuple(epoch(batches)[1].tolist()) for _ in range(5)}
    assert len(orders) == 5


def test_the_same_seed_gives_the_same_epochs():
    first, second = (TrainBatches(numbered(20), 6, CHANGED, 3) for _ in range(2))
    for _ in range(3):
        for one, other in zip(epoch(first), epoch(second), strict=True):
            assert torch.equal(one, other)


def test_another_seed_gives_another_order():
    first, second = (TrainBatches(numbered(50), 8, PLAIN, seed) for seed in (3, 4))
    assert not torch.equal(epoch(first)[1], epoch(second)[1])


def test_an_epoch_goes_on_from_saved_states():
    original = TrainBatches(numbered(20), 6, CHANGED, 3)
    epoch(original)
    states = original.generator.get_state(), original.augment_generator.get_state()
    expected = epoch(original)
    resumed = TrainBatches(numbered(20), 6, CHANGED, 99)
    resumed.generator.set_state(states[0])
    resumed.augment_generator.set_state(states[1])
    for one, other in zip(epoch(resumed), expected, strict=True):
        assert torch.equal(one, other)


def test_augmentation_does_not_change_the_order():
    plain, changed = (TrainBatches(numbered(30), 7, settings, 5) for settings in (PLAIN, CHANGED))
    for _ in range(2):
        assert torch.equal(epoch(plain)[1], epoch(changed)[1])


def test_augmentation_leaves_the_split_as_it_is():
    split = numbered(10)
    before = split.images.clone()
    epoch(TrainBatches(split, 4, CHANGED, 0))
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_batches_in_order_are_the_split_itself(batch_size):
    split = numbered(10)
    images, labels = epoch(in_order(split, batch_size))
    assert torch.equal(images, split.images)
    assert torch.equal(labels, split.labels)


def test_a_split_can_be_moved_to_a_device():
    moved = numbered(3).to(torch.device("meta"))
    assert {moved.images.device.type, moved.labels.device.type} == {"meta"}
    assert len(moved) == 3


# --- augmentation ------------------------------------------------------------------------------------


def flipped_one_by_one(images, seed):
    mirrored = (torch.rand(len(images), 1, 1, 1, generator=seeded(seed)) < 0.5).flatten().tolist()
    return np.stack(
        [image[:, :, ::-1] if turn else image for image, turn in zip(images.numpy(), mirrored, strict=True)]
    )


def shifted_one_by_one(images, pixels, seed):
    downs, rights = torch.randint(-pixels, pixels + 1, (2, len(images), 1), generator=seeded(seed)).squeeze(2).tolist()
    height, width = images.shape[2:]
    moved = np.zeros_like(images.numpy())
    for number, (down, right) in enumerate(zip(downs, rights, strict=True)):
        for row in range(height):
            for column in range(width):
                if 0 <= row - down < height and 0 <= column - right < width:
                    moved[number, :, row, column] = images[number, :, row - down, column - right]
    return moved


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 1000))
def test_a_flip_is_what_flipping_one_by_one_gives(shape, seed):
    images = noise(shape, seed)
    found = random_flip(images, seeded(seed))
    assert np.array_equal(found.numpy(), flipped_one_by_one(images, seed))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 12), st.integers(0, 1000))
def test_a_shift_is_what_shifting_one_by_one_gives(shape, pixels, seed):
    images = noise(shape, seed)
    found = random_translate(images, pixels, seeded(seed))
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), shifted_one_by_one(images, pixels, seed))


def test_flip_and_shift_together_flip_first():
    images, generator = noise((8, 3, 6, 5)), seeded(4)
    expected = random_translate(random_flip(images, generator), 2, generator)
    assert torch.equal(augment(images, Augment(flip="random", translate=2), seeded(4)), expected)


def test_about_half_of_the_images_are_flipped():
    images = torch.tensor([[0, 1]], dtype=torch.uint8).expand(1000, 1, 1, 2)
    flipped = int(random_flip(images, seeded(0))[:, 0, 0, 0].sum())
    # Five standard deviations of a fair coin.
    assert abs(flipped - 500) < 5 * 1000**0.5 / 2


def test_every_shift_up_to_the_largest_occurs_and_none_beyond():
    images = torch.zeros(2000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 1
    moved = random_translate(images, 2, seeded(0))
    assert (moved.sum(dim=(1, 2, 3)) == 1).all()
    rows, columns = moved.sum(dim=(0, 1)).nonzero(as_tuple=True)
    expected = {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


def test_no_augmentation_gives_the_very_same_images():
    images = noise((4, 1, 3, 3))
    assert augment(images, PLAIN, seeded(0)) is images


@pytest.mark.parametrize("settings", [Augment(flip="random"), Augment(translate=1), CHANGED])
def test_augmentation_gives_a_copy(settings):
    images = noise((4, 1, 3, 3))
    before = images.clone()
    changed = augment(images, settings, seeded(0))
    changed.zero_()
    assert torch.equal(images, before)
