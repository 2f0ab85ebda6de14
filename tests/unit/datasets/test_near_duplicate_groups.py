"""Near-duplicates and copies together: groups, leaks between splits, and the report."""

import numpy as np
import pytest

from darkroom import plotting
from darkroom.datasets.near_duplicates.audit import (
    Audit,
    describe,
    draw,
    find_near_duplicates,
    list_groups,
    name_leak,
)
from darkroom.datasets.near_duplicates.groups import SamePictures, twin_of
from darkroom.datasets.near_duplicates.search import Pairs
from darkroom.datasets.scan import Scan
from darkroom.datasets.source import DecodedDataset

TRAIN, VAL, TEST = 0, 1, 2


def seen_as(splits, originals):
    count = len(splits)
    values = np.zeros((count, 1), np.uint8)
    return Scan(np.arange(count), np.array(splits), np.array(originals), values, values, ())


def paired(*pairs):
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Pairs(first, second, np.linspace(0, 0.1, len(first), dtype=np.float32))


def test_pairs_are_joined_to_groups_with_their_copies():
    seen = seen_as([TRAIN] * 5 + [TEST] * 3, [0, 1, 2, 3, 0, 5, 6, 1])

    groups = SamePictures.join(seen, paired((0, 3), (3, 5))).groups

    assert [group.tolist() for group in groups] == [[0, 3, 4, 5]]


def test_copies_alone_are_no_group_of_near_duplicates():
    same = SamePictures.join(seen_as([TRAIN, TRAIN, TEST], [0, 0, 0]), paired())
    assert same.groups == ()
    assert same.leaked.tolist() == [False, False, True]
    assert same.leaking.tolist() == [True, True, False]


def test_leaks_are_counted_by_pair_and_not_by_group():
    # 0 (train) resembles 1 (train), which resembles 2 (test): 0 does not leak.
    same = SamePictures.join(seen_as([TRAIN, TRAIN, TEST], [0, 1, 2]), paired((0, 1), (1, 2)))
    assert same.leaking.tolist() == [False, True, False]
    assert same.leaked.tolist() == [False, False, True]


def test_val_leaks_into_test_but_train_does_not_lose_for_it():
    same = SamePictures.join(seen_as([TRAIN, VAL, TEST], [0, 1, 2]), paired((1, 2)))
    assert same.leaking.tolist() == [False, False, False]
    assert same.leaked.tolist() == [False, False, True]


def test_a_copy_of_a_near_duplicate_leaks():
    # 3 is a copy of 1 in test; 1 resembles 0.
    same = SamePictures.join(seen_as([TRAIN, TRAIN, TRAIN, TEST], [0, 1, 2, 1]), paired((0, 1)))
    assert same.leaking.tolist() == [True, True, False, False]


def test_without_the_leaking_images_nothing_of_train_is_leaked():
    generator = np.random.default_rng(0)
    for _ in range(50):
        splits = np.sort(generator.integers(0, 3, 30))
        first, second = np.sort(generator.choice(30, (2, 12)), axis=0)
        pairs = paired(*((a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a != b))
        seen = seen_as(splits, np.arange(30))
        same = SamePictures.join(seen, pairs)

        left = Audit(seen, pairs, same).without_leaking()

        joined = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        expected = {b for a, b in joined if splits[a] == VAL and splits[b] == TEST}
        assert set(np.flatnonzero(left.leaked)) == expected
        assert not left.leaking[~same.leaking].any()
        for position in np.flatnonzero(same.leaked).tolist():
            other = twin_of(position, seen, pairs)
            assert splits[other] != splits[position]
            assert (min(other, position), max(other, position)) in joined


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
DECODED = DecodedDataset(
    IMAGES, np.array([0, 1, 0, 1, 0, 1]), np.full(6, ""), ("cat", "dog"), tuple(f"{number}.png" for number in range(6))
)


@pytest.fixture
def audit():
    seen = seen_as([TRAIN, TRAIN, TRAIN, TRAIN, VAL, TEST], range(6))
    pairs = paired((0, 2), (1, 5), (3, 4))
    return Audit(seen, pairs, SamePictures.join(seen, pairs))


def test_the_report_counts_groups_and_leaks(audit):
    assert describe(audit, DECODED) == {
        "skipped": "",
        "groups": 3,
        "images": 6,
        "groups_across_splits": 2,
        "groups_with_different_labels": 1,
        "leaked": {"val": 1, "test": 1},
        "leaking": 2,
    }


def test_groups_with_different_labels_come_first_then_those_across_splits(audit):
    listed = list_groups(audit, DECODED, np.ones(6, bool))
    groups = [[image["image"] for image in group] for group in listed]
    assert groups == [["3.png", "4.png"], ["1.png", "5.png"], ["0.png", "2.png"]]
    assert listed[1][1] == {"split": "test", "label": "dog", "image": "5.png", "row": 0}


def test_an_image_has_the_row_of_its_split_in_the_cache_and_a_dropped_one_none(audit):
    listed = list_groups(audit, DECODED, np.array([True, False, True, True, True, True]))
    rows = {image["image"]: image["row"] for group in listed for image in group}
    assert rows == {"0.png": 0, "1.png": None, "2.png": 1, "3.png": 2, "4.png": 0, "5.png": 0}


def test_images_of_one_picture_or_one_group_of_the_table_are_one_group(audit):
    found = audit.groups_with(None)
    assert found[0] == found[2]
    assert found[1] == found[5]
    assert found[3] == found[4]
    assert len(np.unique(found)) == 3
    joined = audit.groups_with(np.array([0, 0, 1, 2, 3, 4]))
    assert joined[0] == joined[1] == joined[2] == joined[5] != joined[3]


def test_a_leak_is_named_by_a_test_image(audit):
    assert name_leak(audit, DECODED) == (
        "2 images of val and test look like one of an earlier split, such as 5.png (test) and 1.png (train)"
    )


def test_the_groups_are_drawn(audit, tmp_path):
    plotting.save(draw(audit, DECODED), tmp_path / "near_duplicates.png")
    titles = [axes.get_title() for axes in draw(audit, DECODED).axes if axes.get_title()]
    assert titles == ["train: dog", "val: cat", "train: dog", "test: dog", "train: cat", "train: cat"]


@pytest.mark.parametrize(
    ("extent", "side", "reason"),
    [("off", 32, "preprocess.audit is off"), ("full", 15, "the images are smaller than 16 pixels"), ("auto", 32, "")],
)
def test_what_is_not_compared_is_said(tmp_path, extent, side, reason):
    seen = seen_as([TRAIN] * 6, range(6))
    found = find_near_duplicates(IMAGES[:, :, :side, :side], seen, extent, tmp_path, lambda what, done, total: None)
    assert found.skipped == reason


def test_auto_does_not_compare_very_many_images(tmp_path, monkeypatch):
    monkeypatch.setattr("darkroom.datasets.near_duplicates.audit.MOST_COMPARED", 5)
    seen = seen_as([TRAIN] * 6, range(6))
    quiet = lambda what, done, total: None  # noqa: E731
    assert "preprocess.audit: full" in find_near_duplicates(IMAGES, seen, "auto", tmp_path, quiet).skipped
    assert find_near_duplicates(IMAGES, seen, "full", tmp_path, quiet).skipped == ""


@pytest.mark.parametrize(("extent", "is_compared"), [("auto", False), ("full", True)])
def test_auto_does_not_compare_a_published_dataset(tmp_path, extent, is_compared):
    seen = seen_as([TRAIN] * 6, range(6))

    found = find_near_duplicates(IMAGES, seen, extent, tmp_path, lambda what, done, total: None, is_published=True)

    assert (found.skipped == "") is is_compared
