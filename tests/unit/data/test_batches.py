"""Batches for training: every image once an epoch, in an order and with changes that a seed decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.config.settings import Augment
from darkroom.data.augmentation import augment
from darkroom.data.batches import CPU, Split, TrainBatches, place, side_by_side

PLAIN = Augment()
CHANGED = Augment(flip="random", translate=2)
ALTERNATING = Augment(flip="alternating")


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8))


def numbered(count):
    """A split whose labels are the numbers of its rows."""
    return Split(noise((count, 1, 4, 4)), torch.arange(count))


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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60))
def test_without_a_smaller_last_batch_all_are_of_one_size_and_images_of_every_epoch_differ(count, batch_size):
    batches = TrainBatches(numbered(count), batch_size, PLAIN, 0, drop_last=True)
    size = min(batch_size, count)
    first, second = ([labels.tolist() for _, labels in batches] for _ in range(2))
    assert {len(labels) for labels in first + second} == {size}
    assert len(first) == len(second) == len(batches) == count // size
    assert len({image for labels in first for image in labels}) == batches.images == len(batches) * size


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_each_epoch_has_another_order(sampler):
    batches = TrainBatches(numbered(50), 8, PLAIN, 0, sampler)
    orders = {tuple(epoch(batches)[1].tolist()) for _ in range(5)}
    assert len(orders) == 5


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_the_same_seed_gives_the_same_epochs(sampler):
    first, second = (TrainBatches(numbered(20), 6, CHANGED, 3, sampler) for _ in range(2))
    for _ in range(3):
        for one, other in zip(epoch(first), epoch(second), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_another_seed_gives_another_order(sampler):
    first, second = (TrainBatches(numbered(50), 8, PLAIN, seed, sampler) for seed in (3, 4))
    assert not torch.equal(epoch(first)[1], epoch(second)[1])


@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_an_epoch_goes_on_from_saved_states(sampler):
    original = TrainBatches(numbered(20), 6, CHANGED, 3, sampler)
    epoch(original)
    states = original.generator.get_state(), original.augment_generator.get_state()
    expected = epoch(original)
    resumed = TrainBatches(numbered(20), 6, CHANGED, 99, sampler)
    resumed.generator.set_state(states[0])
    resumed.augment_generator.set_state(states[1])
    for one, other in zip(epoch(resumed), expected, strict=True):
        assert torch.equal(one, other)


def test_augmentation_does_not_change_the_order():
    plain, *others = (TrainBatches(numbered(30), 7, settings, 5) for settings in (PLAIN, CHANGED, ALTERNATING))
    for _ in range(2):
        order = epoch(plain)[1]
        assert all(torch.equal(epoch(changed)[1], order) for changed in others)


@pytest.mark.parametrize("settings", [CHANGED, ALTERNATING], ids=["random", "alternating"])
def test_augmentation_leaves_the_split_as_it_is(settings):
    split = numbered(10)
    before = split.images.clone()
    batches = TrainBatches(split, 4, settings, 0)
    for _ in range(2):
        for images, _ in batches:
            images.zero_()
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_batches_in_order_are_the_split_itself(batch_size):
    split = numbered(10)
    images, labels = epoch(split.in_order(batch_size, CPU))
    assert torch.equal(images, split.images)
    assert torch.equal(labels, split.labels)


@pytest.mark.parametrize(
    ("side", "batch_size", "expected"), [(32, 512, 512), (32, 64, 64), (224, 512, 27), (224, 8, 8), (2048, 512, 1)]
)
def test_a_model_on_a_cpu_is_asked_about_fewer_large_images_at_once(side: int, batch_size: int, expected: int):
    split = Split(torch.zeros(1, dtype=torch.uint8).expand(100, 3, side, side), torch.arange(100))
    assert split.at_once(batch_size, CPU) == expected


def test_a_split_can_be_moved_to_a_device():
    (moved,) = place(torch.device("meta"), numbered(3))
    assert {moved.images.device.type, moved.labels.device.type} == {"meta"}
    assert len(moved) == 3


@pytest.mark.parametrize(
    ("sizes", "there"),
    [
        ((6, 4), ["cuda", "cuda"]),
        ((6, 5), ["cuda", "cpu"]),
        ((11, 10), ["cpu", "cuda"]),
        ((6, 5, 4), ["cuda", "cpu", "cuda"]),
        ((5, 5, 1), ["cuda", "cuda", "cpu"]),
    ],
)
def test_splits_share_half_of_the_memory_that_is_free(gpu, monkeypatch, sizes, there):
    each = 16  # bytes of an image of 4x4 pixels
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2 * 10 * each, 1 << 36))
    splits = [
        Split(torch.zeros((count, 1, 4, 4), dtype=torch.uint8), torch.zeros(count, dtype=torch.int64))
        for count in sizes
    ]

    found = place(gpu, *splits)

    assert [split.images.device.type for split in found] == there
    assert [split.labels.device.type for split in found] == there
    assert [len(split) for split in found] == list(sizes)


# --- mirroring in alternation ------------------------------------------------------------------------


def mirrored_in(batches, split):
    """Which images the next epoch shows mirrored, by row of the split; all others it shows as they are."""
    images, rows = epoch(batches)
    alone = (images == split.images[rows]).all(dim=(1, 2, 3))
    mirrored = (images == split.images[rows].flip(-1)).all(dim=(1, 2, 3))
    assert (alone ^ mirrored).all()
    return mirrored[rows.argsort()]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_alternation_mirrors_each_image_in_exactly_every_second_epoch(count, batch_size, seed):
    split = numbered(count)
    batches = TrainBatches(split, batch_size, ALTERNATING, seed)
    first = mirrored_in(batches, split)
    for number in range(2, 6):
        assert torch.equal(mirrored_in(batches, split), first ^ (number % 2 == 0))


def test_alternation_begins_with_about_half_of_the_images_mirrored_which_ones_the_seed_says():
    split = numbered(1000)
    first, second, other = (mirrored_in(TrainBatches(split, 100, ALTERNATING, seed), split) for seed in (0, 0, 1))
    # Five standard deviations of a fair coin.
    assert abs(int(first.sum()) - 500) < 5 * 1000**0.5 / 2
    assert torch.equal(first, second)
    assert abs(int((first == other).sum()) - 500) < 5 * 1000**0.5 / 2


@pytest.mark.parametrize("done", [1, 2])
def test_alternation_goes_on_from_a_saved_epoch_and_states(done):
    settings = Augment(flip="alternating", translate=2)
    original = TrainBatches(numbered(20), 6, settings, 3)
    for _ in range(done):
        epoch(original)
    resumed = TrainBatches(numbered(20), 6, settings, 3)
    resumed.epoch = original.epoch
    resumed.generator.set_state(original.generator.get_state())
    resumed.augment_generator.set_state(original.augment_generator.get_state())
    for _ in range(2):
        for one, other in zip(epoch(resumed), epoch(original), strict=True):
            assert torch.equal(one, other)


def test_other_changes_come_after_mirroring_in_alternation_and_do_not_disturb_it():
    others = {"translate": 2, "rotate": 20.0, "brightness": 0.3}
    plain = TrainBatches(numbered(20), 6, ALTERNATING, 3)
    changed = TrainBatches(numbered(20), 6, Augment(flip="alternating", **others), 3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for (mirrored, _), (images, _) in zip(plain, changed, strict=True):
            assert torch.equal(images, augment(mirrored, Augment(**others), generator))


# --- the balanced sampler ----------------------------------------------------------------------------

UNBALANCED = {0: 1000, 1: 10, 3: 90}


def unbalanced():
    """1100 images of three classes out of four, each with its number written in its pixels."""
    numbers = torch.arange(sum(UNBALANCED.values()))
    images = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)[:, None, None]
    return Split(images, torch.cat([torch.full((count,), label) for label, count in UNBALANCED.items()]))


def rows_of(images):
    return (images.long() * torch.tensor([256, 1])).sum(dim=(1, 2, 3))


def test_the_balanced_sampler_draws_every_class_that_occurs_equally_often():
    _, labels = epoch(TrainBatches(unbalanced(), 64, PLAIN, 0, "balanced"))
    times = labels.bincount(minlength=4)
    assert times[2] == 0
    # Five standard deviations of a die with three sides.
    assert ((times[[0, 1, 3]] - 1100 / 3).abs() < 5 * (1100 * 2 / 9) ** 0.5).all()


@pytest.mark.parametrize("batch_size", [7, 64, 2000])
def test_an_epoch_of_the_balanced_sampler_is_as_long_as_any(batch_size):
    shuffled, balanced = (
        [len(labels) for _, labels in TrainBatches(unbalanced(), batch_size, PLAIN, 0, sampler)]
        for sampler in ("shuffle", "balanced")
    )
    assert balanced == shuffled
    assert sum(balanced) == 1100


def test_the_balanced_sampler_keeps_labels_with_their_images():
    split = unbalanced()
    images, labels = epoch(TrainBatches(split, 64, PLAIN, 0, "balanced"))
    assert torch.equal(labels, split.labels[rows_of(images)])


def test_the_balanced_sampler_draws_the_images_of_a_class_equally_often():
    split = unbalanced()
    batches = TrainBatches(split, 64, PLAIN, 0, "balanced")
    times = sum(rows_of(epoch(batches)[0]).bincount(minlength=1100) for _ in range(10))
    for label, count in UNBALANCED.items():
        expected = 10 * 1100 / 3 / count
        # Every image of the large class is drawn seldom, so they are taken in ten groups.
        groups = times[split.labels == label].reshape(10, -1).sum(1)
        assert ((groups - expected * count / 10).abs() < 5 * (expected * count / 10) ** 0.5).all()


def test_the_balanced_sampler_takes_a_split_of_one_class():
    split = Split(noise((9, 1, 4, 4)), torch.full((9,), 5))
    _, labels = epoch(TrainBatches(split, 4, PLAIN, 0, "balanced"))
    assert labels.tolist() == [5] * 9


# --- several at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentations",
    [[PLAIN] * 3, [Augment(mixup=0.5)] * 2, [PLAIN, CHANGED, ALTERNATING], [ALTERNATING]],
    ids=["as they are", "mixed in the step", "each its own way", "one"],
)
@pytest.mark.parametrize("sampler", ["shuffle", "balanced"])
def test_batches_side_by_side_are_those_of_each(monkeypatch, sampler, augmentations):
    split = Split(noise((23, 1, 4, 4)), torch.arange(23) % 3)
    together, alone = (
        [TrainBatches(split, 5, given, seed, sampler) for seed, given in enumerate(augmentations)] for _ in range(2)
    )
    for _ in range(2):
        expected, found = list(zip(*alone, strict=True)), list(side_by_side(together))
        assert len(found) == len(expected) == 5
        for (images, labels), batches in zip(found, expected, strict=True):
            for number, (own_images, own_labels) in enumerate(batches):
                assert torch.equal(images[number], own_images)
                assert torch.equal(labels[number], own_labels)

    taken = []
    take = Split.take
    monkeypatch.setattr(Split, "take", lambda split, rows, device: taken.append(len(rows)) or take(split, rows, device))
    list(side_by_side(together))
    assert taken == [5 * len(together)] * 4 + [3 * len(together)]


def test_batches_side_by_side_may_be_of_several_splits():
    splits = [Split(noise((11, 1, 4, 4), seed), torch.arange(11)) for seed in range(3)]
    together, alone = ([TrainBatches(split, 4, CHANGED, 0) for split in splits] for _ in range(2))

    for (images, labels), batches in zip(side_by_side(together), zip(*alone, strict=True), strict=True):
        for number, (own_images, own_labels) in enumerate(batches):
            assert torch.equal(images[number], own_images)
            assert torch.equal(labels[number], own_labels)
