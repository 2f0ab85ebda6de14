"""Which test images leaked by the model's own features, and the accuracy without them."""

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.data.batches import Split
from darkroom.evaluation.leaks import confirm_leaked, without_leaked
from darkroom.evaluation.metrics import accuracy_interval, measure
from darkroom.models.classifier import Classifier

LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
PREDICTED = np.array([0, 1, 0, 1, 0, 0, 1, 1])


@pytest.fixture
def found():
    return measure(np.eye(2)[PREDICTED] * 3, LABELS, ("cat", "dog"), top_k=1, bins=5)


def test_the_accuracy_is_of_the_other_images(found):
    leaked = np.array([True, True, False, False, False, False, False, False])
    low, high = accuracy_interval(4, 6)
    assert without_leaked(found, leaked) == {
        "accuracy_without_leaked": pytest.approx(4 / 6),
        "accuracy_without_leaked_low": low,
        "accuracy_without_leaked_high": high,
        "leaked_images": 2,
    }


def test_nothing_is_told_where_none_leaked(found):
    assert without_leaked(found, np.zeros(8, bool)) == {}


def test_where_all_leaked_there_is_no_other_accuracy(found):
    assert without_leaked(found, np.ones(8, bool)) == {"leaked_images": 8}


BATCH = 16
TRAIN, VAL, TEST = 200, 40, 30


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    return Classifier(network, mean=[0.5], std=[0.3])


@pytest.fixture
def splits():
    """Three splits of noise: each image is another picture."""
    images = torch.randint(0, 256, (TRAIN + VAL + TEST, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    return [Split(part, torch.zeros(len(part), dtype=torch.int64)) for part in images.byte().split([TRAIN, VAL, TEST])]


def joined(*pairs):
    """The groups of all images where only the given test images are in one with a train or val image."""
    groups = np.arange(TRAIN + VAL + TEST)
    for test, known in pairs:
        groups[TRAIN + VAL + test] = known
    return groups


def marks(*rows):
    found = np.zeros(TEST, bool)
    found[list(rows)] = True
    return found


def test_a_copy_is_confirmed_in_train_and_in_val(classifier, splits):
    train, val, test = splits
    test.images[3], test.images[5] = train.images[7], val.images[2]
    confirmed = confirm_leaked(classifier, *splits, marks(3, 5), joined((3, 7), (5, TRAIN + 2)), BATCH)
    assert np.flatnonzero(confirmed).tolist() == [3, 5]


def test_a_slightly_changed_copy_is_confirmed(classifier, splits):
    train, _, test = splits
    test.images[3] = (train.images[7].int() * 9 // 10).byte()
    confirmed = confirm_leaked(classifier, *splits, marks(3), joined((3, 7)), BATCH)
    assert np.flatnonzero(confirmed).tolist() == [3]


def test_an_image_that_the_model_tells_apart_is_not_confirmed(classifier, splits):
    train, _, test = splits
    test.images[3] = train.images[7]
    confirmed = confirm_leaked(classifier, *splits, marks(3, 4), joined((3, 7), (4, 8)), BATCH)
    assert np.flatnonzero(confirmed).tolist() == [3]


def test_only_what_resembles_by_pixels_is_confirmed(classifier, splits):
    train, _, test = splits
    test.images[:] = train.images[:TEST]
    confirmed = confirm_leaked(classifier, *splits, marks(3), joined((3, 3), (4, 4)), BATCH)
    assert np.flatnonzero(confirmed).tolist() == [3]


def test_a_copy_of_an_image_that_many_resemble_is_confirmed(classifier, splits):
    """Copies in train are not among the other pictures that it is compared with."""
    train, _, test = splits
    train.images[:30] = train.images[0]
    test.images[3] = train.images[0]
    groups = joined((3, 0))
    groups[:30] = 0
    assert confirm_leaked(classifier, *splits, marks(3), groups, BATCH)[3]


def test_without_groups_what_resembles_stays_leaked(classifier, splits):
    assert confirm_leaked(classifier, *splits, marks(3), joined(), BATCH).tolist() == marks(3).tolist()


def test_where_all_train_images_are_in_one_group_what_resembles_stays_leaked(classifier, splits):
    groups = np.zeros(TRAIN + VAL + TEST, np.int64)
    assert confirm_leaked(classifier, *splits, marks(3), groups, BATCH).tolist() == marks(3).tolist()
