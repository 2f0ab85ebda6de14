"""The drift watch: what it counts, when it warns, and when it keeps quiet."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.evaluation.prediction_sets import LabelScores, PredictionSets
from darkroom.evaluation.reference import Reference
from darkroom.serving.drift import LEAST_IMAGES, DriftWatch

CLASSES = ("cat", "dog", "owl")
REFERENCE = Reference(
    temperature=1.0,
    confidence=0.9,
    class_shares=(0.5, 0.3, 0.2),
    energy_threshold=-2.0,
    unlike_share=0.01,
    images=2000,
)


def usual(images, seed=0):
    """Answers as for the validation split: labels, confidences, energies."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, images, p=REFERENCE.class_shares)
    energies = np.where(generator.random(images) < REFERENCE.unlike_share, -1.0, -3.0)
    return labels, generator.uniform(0.8, 1.0, images), energies


def watching(*answers, window=1000):
    watch = DriftWatch(REFERENCE, CLASSES, window)
    for answer in answers:
        watch.add(*answer)
    return watch


def test_an_empty_window_has_no_figures_and_no_warning():
    found = watching(window=50).report()
    assert found == {
        "images": 0,
        "window": 50,
        "unlike_share": None,
        "expected_unlike_share": 0.01,
        "confidence": None,
        "expected_confidence": 0.9,
        "set_size": None,
        "expected_set_size": None,
        "classes": [
            {"label": label, "share": None, "expected": expected}
            for label, expected in zip(CLASSES, REFERENCE.class_shares, strict=True)
        ],
        "warning": None,
    }
    json.dumps(found)


def test_the_figures_are_those_of_the_images():
    found = watching(
        (np.array([0, 1]), np.array([0.5, 1.0]), np.array([-3.0, -1.0])),
        (np.array([0, 0]), np.array([0.75, 0.75]), np.array([-3.0, -2.0])),
    ).report()
    assert (found["images"], found["unlike_share"], found["confidence"]) == (4, 0.25, 0.75)
    assert [each["share"] for each in found["classes"]] == [0.75, 0.25, 0.0]
    json.dumps(found, allow_nan=False)


def test_the_mean_size_of_the_sets_stands_beside_that_of_the_split():
    sets = PredictionSets(LabelScores((), (), (), (), ()), np.zeros(3), 0.95, 1.25)
    watch = DriftWatch(REFERENCE, CLASSES, 3, sets=sets)
    assert (watch.report()["set_size"], watch.report()["expected_set_size"]) == (None, 1.25)
    members = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]], bool)
    watch.add(np.zeros(4, np.int64), np.ones(4), np.full(4, -3.0), members)
    assert watch.report()["set_size"] == pytest.approx(5 / 3)  # the first of four is no longer in the window
    json.dumps(watch.report(), allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 25), max_size=8), st.integers(10, 20))
def test_the_window_holds_the_latest_images_however_they_came(sizes, window):
    labels, confidences, energies = usual(sum(sizes), seed=len(sizes))
    edges = np.cumsum([0, *sizes])
    parts = [(labels[start:end], confidences[start:end], energies[start:end]) for start, end in pairwise(edges)]
    watch = watching(*parts, window=window)
    assert watch.images == min(window, sum(sizes))
    assert watch.class_counts.tolist() == np.bincount(labels[-window:], minlength=3).tolist()
    if sum(sizes):
        assert watch.confidence == pytest.approx(confidences[-window:].mean(), abs=1e-6)
        assert watch.unlike_share == pytest.approx((energies[-window:] > -2).mean())


def test_images_like_those_of_the_split_are_not_warned_of():
    watch = DriftWatch(REFERENCE, CLASSES, 500)
    for seed in range(100):
        watch.add(*usual(50, seed))
        assert watch.warning() is None


def test_more_unlike_images_than_chance_brings_are_warned_of_with_their_share():
    labels, confidences, energies = usual(1000)
    energies[:60] = 0
    share = (energies > -2).mean()
    warning = watching((labels, confidences, energies)).warning()
    assert warning == f"of the latest 1,000 images {share:.1%} are unlike the training images, expected 1.0%"


def test_other_shares_of_classes_are_warned_of_by_the_one_that_differs_most():
    labels, confidences, energies = usual(1000)
    labels[:250] = 2
    share = (labels == 2).mean()
    warning = watching((labels, confidences, energies)).warning()
    assert warning == f"of the latest 1,000 images {share:.1%} are taken for 'owl', expected 20.0%"


def test_both_are_told_in_one_line():
    labels, confidences, energies = usual(1000)
    labels[:], energies[:] = 1, 0
    warning = watching((labels, confidences, energies)).warning()
    assert "100.0% are unlike the training images" in warning
    assert "and 100.0% are taken for 'dog'" in warning
    assert "\n" not in warning


def test_the_warning_goes_when_the_images_are_the_usual_ones_again():
    labels, confidences, _ = usual(500)
    watch = watching((labels, confidences, np.zeros(500)), window=500)
    assert watch.warning()
    watch.add(*usual(500, seed=1))
    assert watch.warning() is None


def test_a_few_images_are_no_drift():
    strange = (np.full(LEAST_IMAGES - 1, 2), np.full(LEAST_IMAGES - 1, 0.4), np.zeros(LEAST_IMAGES - 1))
    watch = watching(strange)
    assert watch.warning() is None
    watch.add(np.array([2]), np.array([0.4]), np.array([0.0]))
    assert watch.warning()


def test_a_smaller_window_needs_a_larger_share_to_warn():
    labels, confidences, energies = usual(1000)
    energies[:] = -3
    energies[::25] = 0  # four in a hundred
    assert watching((labels, confidences, energies)).warning()
    assert watching((labels[:100], confidences[:100], energies[:100])).warning() is None


@pytest.mark.parametrize("images", [5, 40])
def test_a_tiny_validation_split_is_no_ground_for_a_warning(images):
    reference = Reference(1.0, 0.9, (0.5, 0.3, 0.2), -2.0, 0.0, images)
    watch = DriftWatch(reference, CLASSES, 1000)
    watch.add(*usual(1000))
    assert watch.warning() is None


def test_many_rare_classes_count_together():
    shares = (0.5, *([0.5 / 500] * 500))
    reference = Reference(1.0, 0.9, shares, -2.0, 0.01, 5000)
    watch = DriftWatch(reference, [str(label) for label in range(501)], 200)
    generator = np.random.default_rng(0)
    watch.add(generator.choice(501, 200, p=shares), np.ones(200), np.full(200, -3.0))
    assert watch.warning() is None
    watch.add(generator.integers(1, 501, 200), np.ones(200), np.full(200, -3.0))
    assert "taken for '0', expected 50.0%" in watch.warning()


def test_a_class_that_never_occurred_is_warned_of():
    reference = Reference(1.0, 0.9, (0.6, 0.4, 0.0), -2.0, 0.01, 2000)
    watch = DriftWatch(reference, CLASSES, 200)
    watch.add(np.repeat([0, 1, 2], [100, 60, 40]), np.ones(200), np.full(200, -3.0))
    assert "20.0% are taken for 'owl', expected 0.0%" in watch.warning()
