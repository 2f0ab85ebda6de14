"""Folds: disjoint, stratified, and without a group in two of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.audit.folds import assign_folds


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    images=st.integers(6, 120),
    classes=st.integers(2, 5),
    count=st.integers(2, 6),
    joined=st.floats(0, 1),
)
def test_every_image_has_a_fold_and_no_group_is_in_two(
    seed: int, images: int, classes: int, count: int, joined: float
) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    groups = np.where(
        generator.random(images) < joined, generator.integers(count * 2, size=images), 1000 + np.arange(images)
    )
    if len(np.unique(groups)) < count:
        return
    folds = assign_folds(labels, groups, count, seed)
    assert folds.min() >= 0
    assert folds.max() < count
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1


def test_folds_have_the_same_share_of_each_class() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    folds = assign_folds(labels, np.arange(100), 5, 0)
    counts = np.array([np.bincount(labels[folds == fold], minlength=3) for fold in range(5)])
    assert (counts == [10, 6, 4]).all()


def test_a_few_groups_among_many_images_leave_the_folds_balanced() -> None:
    labels = np.arange(200) % 2
    groups = np.arange(200)
    groups[:20] = np.arange(20) // 2 * 2  # ten pairs of different labels
    folds = assign_folds(labels, groups, 4, 1)
    assert np.ptp(np.bincount(folds)) <= 2


def test_the_same_seed_gives_the_same_folds_and_another_one_others() -> None:
    labels = np.arange(100) % 4
    first, same, other = (assign_folds(labels, np.arange(100), 5, seed) for seed in (3, 3, 4))
    assert (first == same).all()
    assert (first != other).any()


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 folds of 2 images that differ"):
        assign_folds(np.array([0, 0, 1, 1]), np.array([7, 7, 9, 9]), 3, 0)
