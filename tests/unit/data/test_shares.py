"""Processes that share batches together have each image once, and change it as one process does."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.draws import noise, seeded

from darkroom.config.settings import Augment
from darkroom.data.augmentation import augment
from darkroom.data.augmentation.draws import drawn_for
from darkroom.data.augmentation.mixing import mix
from darkroom.data.batches import CPU, Split, TrainBatches
from darkroom.data.shares import Share

RANKS = st.integers(2, 5)
CHANGES = {
    "mirrored": {"flip": "random", "flip_vertical": True},
    "cropped": {"crop_scale": [0.2, 1.0]},
    "turned": {"rotate": 30.0, "scale": 0.2, "shear": 10.0},
    "shifted": {"translate": 3, "padding": "reflect"},
    "policy": {"policy": "trivial"},
    "colored": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.5, "hue": 0.2},
    "blurred": {"blur": 1.5},
    "cut out": {"cutout": 4},
    "erased": {"erasing": 0.7},
    "several": {"flip": "random", "translate": 2, "policy": "trivial", "erasing": 0.5},
}
MIXES = [{"mixup": 0.7}, {"cutmix": 1.0}, {"mixup": 0.7, "cutmix": 1.0}]


def all_rows(ranks, count, parts=1, *, mixes=False):
    return [Share(rank, ranks, parts, mixes).rows(count, CPU) for rank in range(ranks)]


@settings(max_examples=60, deadline=None)
@given(RANKS, st.integers(1, 40), st.integers(1, 4))
def test_each_image_of_a_batch_that_can_be_divided_is_that_of_one_process(ranks, images, parts):
    count = images * ranks * parts
    places = [rows.places.tolist() for rows in all_rows(ranks, count, parts)]
    assert sorted(place for each in places for place in each) == list(range(count))
    assert {len(each) for each in places} == {count // ranks}


@settings(max_examples=60, deadline=None)
@given(RANKS, st.integers(1, 60), st.integers(1, 4))
def test_each_part_of_a_batch_is_divided_and_kept_in_order(ranks, count, parts):
    batch = torch.arange(count)
    sizes = [len(part) for part in batch.chunk(parts)]
    every = all_rows(ranks, count, parts)
    if any(size % ranks for size in sizes):
        assert all(rows.copies == ranks for rows in every)
        assert all(torch.equal(rows.places, batch) for rows in every)
        return
    assert {rows.copies for rows in every} == {1}
    shares = [rows.places.chunk(parts) for rows in every]
    for number, part in enumerate(batch.chunk(parts)):
        assert torch.equal(torch.cat([share[number] for share in shares]), part)


def test_of_three_parts_two_processes_have_a_half_each():
    first, second = all_rows(2, 10, 3)
    assert first.places.tolist() == [0, 1, 4, 5, 8]
    assert second.places.tolist() == [2, 3, 6, 7, 9]


@settings(max_examples=60, deadline=None)
@given(RANKS, st.integers(1, 60), st.integers(1, 4))
def test_the_image_before_each_is_taken_and_no_more_than_one_a_part(ranks, count, parts):
    for rows in all_rows(ranks, count, parts, mixes=True):
        assert torch.equal(rows.taken[: len(rows)], rows.places)
        assert torch.equal(rows.taken[rows.before], (rows.places - 1) % count)
        assert len(rows.taken) <= len(rows) + len(torch.arange(count).chunk(parts))


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("count", [24, 29])
def test_images_of_a_part_of_a_batch_change_as_in_the_whole(changes, count):
    images = noise((count, 3, 12, 10))
    whole, part = seeded(3), seeded(3)
    places = torch.randperm(count, generator=seeded(1))[: count // 2]
    expected = augment(images, Augment(**changes), whole)
    with drawn_for(places, count):
        found = augment(images[places], Augment(**changes), part)
    assert torch.equal(found, expected[places])
    assert not torch.equal(found, images[places])
    assert torch.equal(part.get_state(), whole.get_state())


@pytest.mark.parametrize("mixes", MIXES, ids=["mixup", "cutmix", "both"])
@pytest.mark.parametrize(("count", "parts"), [(24, 1), (24, 2), (21, 2)])
def test_images_of_a_part_of_a_batch_mix_as_in_the_whole(mixes, count, parts):
    images, labels = noise((count, 1, 7, 6)), torch.arange(count)
    expected, target = mix(images, labels, Augment(**mixes), seeded(5))
    for rows in all_rows(2, count, parts, mixes=True):
        found, own = mix(images[rows.taken], labels, Augment(**mixes), seeded(5), rows)
        assert torch.equal(found, expected[rows.places])
        assert torch.equal(own.share, target.share)
        assert torch.equal(own.partners, target.partners)
        assert torch.equal(own.at(rows.places).labels, rows.places)


@pytest.mark.parametrize("batches_at_once", [1, 3])
@pytest.mark.parametrize("mixes", [False, True])
def test_shared_batches_are_parts_of_those_of_one_process(batches_at_once, mixes, monkeypatch):
    monkeypatch.setattr(TrainBatches, "_block", lambda batches: batches.batch_size * batches_at_once)
    split, changes = Split(noise((29, 1, 5, 5)), torch.arange(29)), Augment(flip="alternating", translate=1)
    alone = TrainBatches(split, 8, changes, 4)
    shares = [Share(rank, 2, 2, mixes) for rank in range(2)]
    shared = [TrainBatches(split, 8, changes, 4, share=share) for share in shares]
    for _ in range(2):
        for (images, labels), *parts in zip(alone, *shared, strict=True):
            for share, (own, every) in zip(shares, parts, strict=True):
                assert torch.equal(every, labels)
                assert torch.equal(own, images[share.rows(len(labels), CPU).taken])
    states = [each.augment_generator.get_state() for each in (alone, *shared)]
    assert all(torch.equal(one, other) for one, other in pairwise(states))
