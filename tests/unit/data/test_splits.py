"""Which image belongs to which split."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.data.splits import assign
from darkroom.errors import DataError

FRACTIONS = st.floats(0.02, 0.98) | st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.55, 2 / 3, 0.75, 0.9, 0.95])


def names(count):
    return [f"class {number}" for number in range(count)]


def split(labels, published="", *, val=0.1, test=0.2, seed=0):
    labels = np.asarray(labels, dtype=np.int64)
    splits = np.broadcast_to(np.asarray(published, dtype="<U5"), labels.shape)
    return assign(labels, splits, names(labels.max() + 1), val_fraction=val, test_fraction=test, seed=seed)


def needed(message):
    return int(re.search(r"at least (\d+) are needed", message)[1])


def test_splits_are_disjoint_and_cover_everything_and_hold_every_class(long):
    @settings(max_examples=100 if long else 25, deadline=None)
    @given(
        st.lists(st.integers(20, 60), min_size=2, max_size=5),
        st.floats(0.1, 0.5),
        st.floats(0.1, 0.5),
        st.integers(0, 2**31 - 1),
        st.randoms(use_true_random=False),
    )
    def check(counts, val, test, seed, shuffled):
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        shuffled.shuffle(labels)
        rows = split(labels, val=val, test=test, seed=seed)
        together = np.concatenate([rows["train"], rows["val"], rows["test"]])
        assert np.array_equal(np.sort(together), np.arange(len(labels)))
        for part in rows.values():
            assert set(np.asarray(labels)[part]) == set(range(len(counts)))
            assert np.array_equal(part, np.sort(part))

    check()


@settings(max_examples=50, deadline=None)
@given(st.integers(50, 300), st.integers(50, 300), st.floats(0.05, 0.6))
def test_a_cut_takes_its_share_of_every_class(first, second, fraction):
    labels = np.repeat([0, 1], [first, second])
    rows = split(labels, test=fraction, val=0.3)
    for label, count in enumerate([first, second]):
        # Whole images only: the share of a class may be off by one, and that of all by one more.
        assert abs((labels[rows["test"]] == label).sum() - fraction * count) <= 2


def test_the_same_seed_gives_the_same_rows():
    labels = np.arange(300) % 3
    first, second = split(labels, seed=7), split(labels, seed=7)
    assert all(np.array_equal(first[part], second[part]) for part in ("train", "val", "test"))


def test_another_seed_gives_other_rows():
    labels = np.arange(300) % 3
    first, second = split(labels, seed=7), split(labels, seed=8)
    assert not any(np.array_equal(first[part], second[part]) for part in ("train", "val", "test"))


def test_a_published_test_split_is_kept_and_val_comes_from_train():
    published = np.array((["train"] * 4 + ["test"]) * 40)
    labels = np.arange(200) % 2
    rows = split(labels, published, val=0.25)
    assert np.array_equal(rows["test"], np.flatnonzero(published == "test"))
    assert len(rows["val"]) == 40
    assert set(published[rows["val"]]) == {"train"}


def test_three_published_splits_are_all_kept():
    published = np.array(["train", "val", "test", "train"] * 10)
    rows = split(np.arange(40) // 4 % 2, published)
    assert all(np.array_equal(rows[part], np.flatnonzero(published == part)) for part in ("train", "val", "test"))


def test_a_published_val_split_is_kept_where_test_is_cut():
    published = np.array(["train", "train", "val"] * 20)
    rows = split(np.arange(60) // 3 % 2, published, test=0.25)
    assert np.array_equal(rows["val"], np.flatnonzero(published == "val"))
    assert len(rows["test"]) == 10
    assert set(published[rows["test"]]) == {"train"}


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_published_split_without_one_of_the_classes_is_refused(part):
    published = np.array((["train"] * 20 + [part]) * 2)
    labels = np.array(([0, 1] * 10 + [0]) * 2)
    with pytest.raises(DataError, match=f"class 'class 1' has no image in the {part} split; add images of it"):
        split(labels, published)


def test_a_class_that_is_too_small_is_refused_with_its_name_and_the_number_needed():
    labels = np.repeat([0, 1, 2], [50, 4, 50])
    match = r"class 'class 1' has 4 images to cut the test split from; with preprocess\.test_fraction 0\.2 at least 5"
    with pytest.raises(DataError, match=match):
        split(labels)


def test_a_class_too_small_for_val_is_refused_with_its_name_and_the_number_needed():
    published = np.repeat(["train", "test"], [108, 20])
    labels = np.concatenate([np.repeat([0, 1], [99, 9]), np.arange(20) % 2])
    match = r"class 'class 1' has 9 images to cut the val split from; with preprocess\.val_fraction 0\.1 at least 10"
    with pytest.raises(DataError, match=match):
        split(labels, published)


def test_a_class_without_any_image_is_refused():
    with pytest.raises(DataError, match="class 'class 2' has 0 images"):
        assign(np.arange(40) % 2, np.full(40, ""), names(3), val_fraction=0.1, test_fraction=0.2, seed=0)


def test_the_number_that_a_refusal_names_suffices(long):
    @settings(max_examples=300 if long else 60, deadline=None)
    @given(FRACTIONS, st.lists(st.integers(0, 200), max_size=9), st.integers(0, 100))
    def check(fraction, more, seed):
        def cut(smallest):
            # Val is published, so that only the test split is cut.
            counts = [smallest, *(smallest + extra for extra in more), smallest]
            labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.arange(len(counts))])
            published = np.repeat(["train", "val"], [sum(counts), len(counts)])
            return split(labels, published, test=fraction, seed=seed), labels

        with pytest.raises(DataError, match="at least") as refusal:
            cut(1)
        rows, labels = cut(needed(str(refusal.value)))
        assert set(labels[rows["test"]]) == set(labels[rows["train"]]) == set(labels)

    check()


@settings(max_examples=100, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.lists(st.integers(1, 80), min_size=2, max_size=5))
def test_small_classes_are_either_refused_or_in_every_split(val, test, counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    try:
        rows = split(labels, val=val, test=test)
    except DataError as refusal:
        smallest = int(np.argmin(counts))
        rows = None
        message = str(refusal)
    if rows is None:
        assert f"class 'class {smallest}'" in message or "to cut the val split from" in message
        assert needed(message) >= 2
    else:
        assert all(set(labels[part]) == set(range(len(counts))) for part in rows.values())
