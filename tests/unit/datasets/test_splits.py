"""Which image belongs to which split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from darkroom.datasets.splits import assign, shortcomings
from darkroom.errors import DataError

FRACTIONS = st.floats(0.02, 0.98) | st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.55, 2 / 3, 0.75, 0.9, 0.95])


def names(count):
    return [f"class {number}" for number in range(count)]


def split(labels, published="", *, val=0.1, test=0.2, seed=0, groups=None):
    labels = np.asarray(labels, dtype=np.int64)
    splits = np.broadcast_to(np.asarray(published, dtype="<U5"), labels.shape)
    return assign(
        labels, splits, names(labels.max() + 1), val_fraction=val, test_fraction=test, seed=seed, groups=groups
    )


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
def test_a_published_split_without_one_of_the_classes_is_kept_and_told(part):
    published = np.array((["train"] * 200 + [part] * 100) * 2)
    labels = np.array(([0, 1] * 100 + [0] * 100) * 2)
    rows = split(labels, published)
    assert np.array_equal(rows[part], np.flatnonzero(published == part))
    told = [line for line in shortcomings(labels, rows, names(2)) if "no image" in line]
    assert told == [f"{part} has no image of 1 of 2 classes ('class 1'): its metrics say nothing about them"]


def test_splits_with_every_class_and_many_images_have_no_shortcoming():
    labels = np.arange(2000) % 2
    assert shortcomings(labels, split(labels), names(2)) == []


def test_few_images_are_told_with_what_an_accuracy_of_them_is_worth():
    labels = np.arange(20) % 2
    rows = split(labels)
    assert (len(rows["val"]), len(rows["test"])) == (2, 4)
    # Wilson's interval of 2 right of 4 is 0.150 to 0.850, that of 1 of 2 is 0.095 to 0.905.
    assert shortcomings(labels, rows, names(2)) == [
        "val has 2 images: an accuracy measured on so few has a margin of error of ±41 points",
        "test has 4 images: an accuracy measured on so few has a margin of error of ±35 points",
    ]


def test_three_images_of_a_class_make_one_in_each_split():
    rows = split([0, 0, 0, 1, 1, 1])
    assert {part: np.sort(np.array([0, 0, 0, 1, 1, 1])[own]).tolist() for part, own in rows.items()} == {
        "train": [0, 1],
        "val": [0, 1],
        "test": [0, 1],
    }


def test_a_small_class_beside_large_ones_is_in_every_split():
    labels = np.repeat([0, 1, 2], [300, 3, 12])
    rows = split(labels)
    assert {part: np.bincount(labels[own]).tolist() for part, own in rows.items()} == {
        "train": [216, 1, 9],
        "val": [24, 1, 1],
        "test": [60, 1, 2],
    }


@pytest.mark.parametrize(("count", "have"), [(1, "1 image"), (2, "2 images")])
def test_a_class_of_one_or_two_images_is_refused_with_its_name_and_the_number_needed(count, have):
    match = (
        rf"class 'class 1' has {have} to learn from, but at least 3 are needed, one each for train, val and test: add"
    )
    with pytest.raises(DataError, match=match):
        split(np.repeat([0, 1, 2], [50, count, 50]))


def test_a_class_too_small_for_val_is_refused_where_test_is_published():
    published = np.repeat(["train", "test"], [100, 20])
    labels = np.concatenate([np.repeat([0, 1], [99, 1]), np.arange(20) % 2])
    match = r"class 'class 1' has 1 image to learn from, but at least 2 are needed, one each for train and val"
    with pytest.raises(DataError, match=match):
        split(labels, published)


def test_all_classes_that_are_too_small_are_named():
    match = r"class 'class 1' has 2 images .*; too few have 'class 2' \(1\) too: add images, or remove the class"
    with pytest.raises(DataError, match=match):
        split(np.repeat([0, 1, 2], [50, 2, 1]))


def test_a_class_that_train_lacks_is_refused():
    labels = np.arange(60) % 2
    published = np.where(labels == 1, "test", np.array(["train", "val", "test"])[np.arange(60) % 3])
    with pytest.raises(DataError, match="class 'class 1' has no image in train: add images of it to train"):
        split(labels, published)


def test_a_class_without_any_image_is_refused():
    with pytest.raises(DataError, match="class 'class 2' has no image to learn from, but at least 3 are needed"):
        assign(np.arange(40) % 2, np.full(40, ""), names(3), val_fraction=0.1, test_fraction=0.2, seed=0)


@settings(max_examples=100, deadline=None)
@given(FRACTIONS, FRACTIONS, st.lists(st.integers(1, 80), min_size=2, max_size=5), st.integers(0, 100))
def test_classes_of_three_images_are_in_every_split_and_smaller_ones_are_refused(val, test, counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    if min(counts) < 3:
        with pytest.raises(DataError, match="at least 3 are needed"):
            split(labels, val=val, test=test, seed=seed)
        return
    rows = split(labels, val=val, test=test, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(labels)))
    assert all(set(labels[part]) == set(range(len(counts))) for part in rows.values())


def test_what_could_always_be_cut_is_cut_as_ever():
    # By the first release: models are compared on these images.
    labels = np.arange(40) % 2
    rows = split(labels, seed=3)
    kept, test = train_test_split(np.arange(40), test_size=0.2, stratify=labels, random_state=3)
    kept, val = train_test_split(np.sort(kept), test_size=0.1, stratify=labels[np.sort(kept)], random_state=3)
    assert np.array_equal(rows["test"], np.sort(test))
    assert np.array_equal(rows["val"], np.sort(val))
    assert np.array_equal(rows["train"], np.sort(kept))


@st.composite
def grouped(draw):
    """Labels and groups: of each group its images' labels."""
    classes = draw(st.integers(2, 4))
    of_group = st.lists(st.integers(0, classes - 1), min_size=1, max_size=8)
    parts = [list(range(classes)) * 3, *draw(st.lists(of_group, min_size=1, max_size=12))]
    labels = np.concatenate(parts)
    order = np.array(draw(st.permutations(range(len(labels)))))
    return labels[order], np.repeat(np.arange(len(parts)), [len(part) for part in parts])[order]


@settings(max_examples=20, deadline=None)
@given(grouped(), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.integers(0, 100))
def test_no_group_is_in_two_splits(data, val, test, seed):
    labels, groups = data
    try:
        rows = split(labels, val=val, test=test, seed=seed, groups=groups)
    except DataError as refusal:
        rows, message = None, str(refusal)
    if rows is None:
        assert "cannot be cut by groups" in message
        return
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(labels)))
    assert set(labels[rows["train"]]) == set(labels)
    assert all(len(part) and np.array_equal(part, np.sort(part)) for part in rows.values())
    assert sum(len(set(groups[part])) for part in rows.values()) == len(set(groups))


def test_a_cut_by_groups_keeps_the_shares_of_the_classes():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), generator.integers(5, 60, 100))
    labels = (generator.random(len(groups)) < (groups % 5) / 5).astype(np.int64)
    rows = split(labels, groups=groups)
    for label in (0, 1):
        whole = (labels == label).sum()
        assert (labels[rows["test"]] == label).sum() / whole == pytest.approx(0.2, abs=0.03)
        assert (labels[rows["val"]] == label).sum() / whole == pytest.approx(0.08, abs=0.03)


def test_the_same_seed_gives_the_same_groups():
    labels, groups = np.arange(300) % 3, np.arange(300) // 10
    first, second, other = (split(labels, groups=groups, seed=seed) for seed in (7, 7, 8))
    assert all(np.array_equal(first[part], second[part]) for part in first)
    assert not np.array_equal(first["test"], other["test"])


def test_a_class_of_one_group_stays_in_train():
    labels = np.concatenate([np.arange(200) % 2, np.full(10, 2)])
    groups = np.concatenate([np.arange(200) // 10, np.full(10, 20)])
    rows = split(labels, groups=groups)
    assert (labels[rows["train"]] == 2).sum() == 10
    assert [line[:40] for line in shortcomings(labels, rows, names(3)) if "'class 2'" in line] == [
        "val has no image of 1 of 3 classes ('cla",
        "test has no image of 1 of 3 classes ('cl",
    ]


def test_groups_that_are_the_classes_are_refused():
    labels = np.repeat([0, 1], 20)
    match = "the test split cannot be cut by groups: of 2 groups 2 must stay in train as the only ones of a class"
    with pytest.raises(DataError, match=match):
        split(labels, groups=labels)


def test_groups_of_a_published_split_are_left_as_they_are():
    published = np.array(["train", "train", "train", "val", "test"] * 20)
    groups = np.arange(100) % 5
    rows = split(np.arange(100) // 5 % 2, published, groups=groups)
    assert all(np.array_equal(rows[part], np.flatnonzero(published == part)) for part in rows)


def test_adding_images_leaves_nearly_all_others_in_their_split():
    generator = np.random.default_rng(3)
    digests = generator.integers(0, 256, (800, 16), dtype=np.uint8)
    labels = np.arange(800) % 2

    def cut(count):
        settings = {"val_fraction": 0.1, "test_fraction": 0.2, "seed": 0}
        return assign(labels[:count], np.full(count, ""), ("a", "b"), digests=digests[:count], **settings)

    before, after = cut(600), cut(800)
    assert [len(before[split]) for split in ("train", "val", "test")] == [432, 48, 120]
    kept = np.intersect1d(before["test"], after["test"])
    assert len(kept) > 0.8 * len(before["test"])
    # By chance a fifth would be.
    assert len(np.intersect1d(before["train"], after["test"])) < 0.2 * len(after["test"])


def test_contents_decide_the_split_and_not_the_order_of_the_files():
    digests = np.random.default_rng(4).integers(0, 256, (60, 16), dtype=np.uint8)
    labels, order = np.arange(60) % 3, np.random.default_rng(5).permutation(60)
    settings = {"val_fraction": 0.1, "test_fraction": 0.2, "seed": 7}
    splits = np.full(60, "")
    first = assign(labels, splits, ("a", "b", "c"), digests=digests, **settings)
    second = assign(labels[order], splits, ("a", "b", "c"), digests=digests[order], **settings)
    for split in ("train", "val", "test"):
        assert sorted(order[second[split]]) == first[split].tolist()
    other = assign(labels, splits, ("a", "b", "c"), digests=digests, **settings | {"seed": 8})
    assert other["test"].tolist() != first["test"].tolist()


def test_adding_groups_leaves_nearly_all_others_in_their_split():
    generator = np.random.default_rng(6)
    digests = generator.integers(0, 256, (900, 16), dtype=np.uint8)
    groups, labels = np.arange(900) // 3, np.arange(900) // 3 % 2
    settings = {"val_fraction": 0.1, "test_fraction": 0.2, "seed": 0}

    def cut(count):
        splits = np.full(count, "")
        return assign(labels[:count], splits, ("a", "b"), digests=digests[:count], groups=groups[:count], **settings)

    before, after = cut(600), cut(900)
    assert len(np.intersect1d(before["test"], after["test"])) > 0.8 * len(before["test"])
    assert len(np.intersect1d(before["train"], after["test"])) < 0.2 * len(after["test"])


@pytest.mark.parametrize("other", ["Cat", "cat ", "c at"])
def test_classes_that_differ_in_case_or_blanks_only_are_told(other):
    rows = {"train": np.arange(200), "val": np.arange(200), "test": np.arange(200)}
    (line,) = shortcomings(np.arange(200) % 3, rows, (other, "cat", "dog"))
    assert (
        line == f"{other!r} and 'cat' are different classes, although only case or blanks differ; rename one to merge"
    )
