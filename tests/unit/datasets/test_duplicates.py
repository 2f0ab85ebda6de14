"""Images that occur more than once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.datasets import duplicates
from darkroom.datasets.scan import scan


def find_duplicates(images, rows):
    """The groups, each as {split: rows}."""
    found = duplicates.find_duplicates(scan(images, rows))
    groups = [{} for _ in found.starts]
    numbers = np.searchsorted(found.starts, np.arange(len(found.rows)), side="right") - 1
    for number, split, row in zip(numbers, found.splits, found.rows, strict=True):
        groups[number].setdefault(list(rows)[split], []).append(int(row))
    return groups


def levels(*values):
    """One flat 1x2x2 image for each gray level."""
    return np.broadcast_to(np.array(values, dtype=np.uint8)[:, None, None, None], (len(values), 1, 2, 2)).copy()


def rows(**splits):
    return {split: np.array(members, dtype=np.int64) for split, members in splits.items()}


def test_images_that_all_differ_make_no_group():
    assert find_duplicates(levels(1, 2, 3), rows(train=[0, 1], test=[2])) == []


def test_copies_within_a_split_are_found():
    assert find_duplicates(levels(5, 7, 5, 5), rows(train=[0, 1, 2, 3])) == [{"train": [0, 2, 3]}]


def test_copies_across_splits_are_found():
    assert find_duplicates(levels(5, 7, 5, 7), rows(train=[0, 1], val=[3], test=[2])) == [
        {"train": [0], "test": [2]},
        {"train": [1], "val": [3]},
    ]


def test_one_pixel_makes_the_difference():
    images = levels(5, 5)
    images[1, 0, 1, 1] = 6
    assert find_duplicates(images, rows(train=[0, 1])) == []


def test_images_outside_the_splits_do_not_count():
    assert find_duplicates(levels(5, 5), rows(train=[0])) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["train", "val", "test"])), max_size=30))
def test_groups_are_those_of_equal_pixels(images):
    splits = {split: [row for row, (_, own) in enumerate(images) if own == split] for split in ("train", "val", "test")}
    found = find_duplicates(levels(*(level for level, _ in images)), rows(**splits))
    members = sorted(sorted(row for group in groups.values() for row in group) for groups in found)
    expected = [[row for row, (own, _) in enumerate(images) if own == level] for level in range(6)]
    assert members == sorted(group for group in expected if len(group) > 1)
    assert all(row in splits[split] for groups in found for split, group in groups.items() for row in group)
