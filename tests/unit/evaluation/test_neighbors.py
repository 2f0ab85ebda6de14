"""The train images that a classifier takes for most like a test image."""

import numpy as np
import pytest
import torch
from tests.unit.evaluation.made_up_report import classifier_of, noise

from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.models.network import record_features

SHAPE, CLASSES, TRAIN = (1, 8, 8), 3, 50


@pytest.fixture(scope="module")
def classifier():
    return classifier_of(SHAPE, CLASSES)


@pytest.fixture
def train():
    return noise(TRAIN, SHAPE, CLASSES, seed=1)


def features(classifier, images):
    """What the last of the two layers is given, computed by hand, as vectors of length 1."""
    flatten, first, relu, _ = classifier.network
    with torch.no_grad():
        found = relu(first(flatten(images * classifier.scale + classifier.shift))).numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_they_are_those_of_the_highest_cosine_in_any_batches(classifier, train, batch_size):
    test = noise(20, SHAPE, CLASSES)
    rows = np.array([3, 0, 17])
    found, likeness = TrainNeighbors(classifier, train, [], TRAIN, batch_size).nearest(test, rows, 4)
    cosines = features(classifier, test.images[rows]) @ features(classifier, train.images).T
    assert likeness == pytest.approx(np.sort(cosines, axis=1)[:, ::-1][:, :4], abs=2e-3)  # features are float16
    assert np.take_along_axis(cosines, found, axis=1) == pytest.approx(likeness, abs=2e-3)


def test_the_features_of_a_pass_before_are_not_computed_again(classifier, train):
    test, others = noise(6, SHAPE, CLASSES, seed=3), noise(6, SHAPE, CLASSES, seed=4)
    rows = np.array([4, 0, 5])
    with torch.no_grad(), record_features(classifier) as kept:
        classifier(test.images)
    found, likeness = TrainNeighbors(classifier, train, [], TRAIN, 16).nearest(test, rows, 4)
    # Images that are not looked at.
    again, as_like = TrainNeighbors(classifier, train, [], TRAIN, 16, asked=kept[0]).nearest(others, rows, 4)
    assert again.tolist() == found.tolist()
    assert as_like == pytest.approx(likeness, abs=1e-3)


def test_a_copy_of_a_train_image_comes_first(classifier, train):
    test = noise(4, SHAPE, CLASSES)
    test.images[2] = train.images[31]
    found, likeness = TrainNeighbors(classifier, train, [], TRAIN, 16).nearest(test, np.array([2]), 1)
    assert found.tolist() == [[31]]
    assert likeness[0, 0] == pytest.approx(1, abs=1e-6)


def test_of_a_large_split_some_images_from_all_over_it_are_looked_at(classifier, train):
    neighbors = TrainNeighbors(classifier, train, [], 10, 16)
    found, _ = neighbors.nearest(noise(30, SHAPE, CLASSES), np.arange(30), 10)
    assert neighbors.looked_at == 10
    assert np.unique(found).tolist() == list(range(0, TRAIN, 5))


def test_there_are_no_more_neighbors_than_train_images(classifier, train):
    found, likeness = TrainNeighbors(classifier, train, [], 3, 2).nearest(noise(2, SHAPE, CLASSES), np.arange(2), 5)
    assert found.shape == likeness.shape == (2, 3)


def test_features_beyond_half_precision_have_finite_neighbors(classifier, train):
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(1e9)
    rows, likeness = TrainNeighbors(classifier, train, [], 1000, 7).nearest(train, np.arange(3), 2)
    assert np.isfinite(likeness).all()
    assert rows.shape == (3, 2)
