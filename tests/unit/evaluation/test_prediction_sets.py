"""Prediction sets: how often they hold the true label, what MAPIE says, and which coverage takes how many images."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluation.simulated_sets import COVERAGE, Case, simulate

from darkroom.config.settings import Serve
from darkroom.evaluation import prediction_sets
from darkroom.evaluation.prediction_sets import (
    CoverageError,
    LabelScores,
    coverage_by_class,
    fit_label_scores,
    measure_sets,
    ordered_labels,
)
from darkroom.evaluation.reference import Reference, calibrated, energies, fit_reference

CASE = Case(4, 1200, 7, rarity=3)
NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def val():
    """Logits of a validation split, and its labels."""
    return CASE.draw(CASE.images, np.random.default_rng(1))


@pytest.fixture(scope="module")
def scores(val):
    return fit_label_scores(*said(val[0]), val[1])


@pytest.fixture(scope="module")
def new():
    """Logits of other images, and their labels."""
    return CASE.draw(500, np.random.default_rng(2))


def said(logits):
    """What a model says of images: probabilities and energies."""
    return calibrated(logits, 1.0), energies(logits)


# --- the guarantee ----------------------------------------------------------------------------------------


def test_they_hold_the_true_label_at_the_rate_that_was_asked_for():
    found = simulate(CASE, splits=60)
    assert found.covered[-1] == pytest.approx(COVERAGE, abs=0.005)
    assert found.hard > COVERAGE - 0.025  # they adapt: it is not the hard images that pay
    assert found.expected_size == pytest.approx(found.size, rel=0.01)
    assert np.ptp(found.covered[:-1]) > 0.02  # so that the next test shows something


def test_per_class_they_do_so_for_each_class():
    found = simulate(replace(CASE, per_class=True), splits=60)
    assert found.covered == pytest.approx(np.full(5, COVERAGE), abs=0.01)


def test_mapie_finds_the_same_sets(val, scores, new):
    from mapie import classification
    from sklearn.base import BaseEstimator, ClassifierMixin

    logits = np.concatenate([val[0], new[0]])
    rows = np.arange(len(logits))[:, None]
    probabilities = calibrated(logits, 1.0)

    class Model(ClassifierMixin, BaseEstimator):
        """Knows an image by its number."""

        classes_ = np.arange(CASE.classes)
        is_fitted_ = True

        def fit(self, images, labels):
            return self

        def predict_proba(self, images):
            return probabilities[np.asarray(images).ravel()]

        def predict(self, images):
            return self.predict_proba(images).argmax(axis=1)

    class Ranks(np.random.RandomState):
        """Has MAPIE draw the ranks of the images instead of random numbers."""

        def uniform(self, low=0.0, high=1.0, size=None):
            found = 1 - scores.ranks(*said(val[0] if np.prod(size) == len(val[0]) else new[0]))
            return found.reshape(size)

    other = classification.SplitConformalClassifier(
        Model(), confidence_level=COVERAGE, conformity_score="aps", prefit=True, random_state=Ranks()
    )
    other.conformalize(rows[: CASE.images], val[1])
    _, expected = other.predict_set(rows[CASE.images :], conformity_score_params={"include_last_label": "randomized"})

    found = scores.sets(COVERAGE, NAMES, per_class=False).of(*said(new[0]))
    assert found.tolist() == expected[:, :, 0].tolist()
    assert {0, 1, 2} <= set(found.sum(axis=1).tolist())


# --- the sets ---------------------------------------------------------------------------------------------


def test_a_score_is_the_probability_of_less_probable_labels_and_a_part_of_its_own():
    scores = LabelScores((), (tuple(np.linspace(0, 1, 101).tolist()),), (), (), ())  # the rank is the energy
    found = scores.of(np.array([[0.2, 0.5, 0.3], [0.25, 0.5, 0.25]]), np.array([0.4, 1.0]))
    assert found == pytest.approx(np.array([[0.12, 0.8, 0.38], [0.25, 0.5, 0.0]]))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_higher_coverage_only_adds_labels(scores, new, per_class):
    low, high = (scores.sets(coverage, NAMES, per_class=per_class).of(*said(new[0])) for coverage in (0.8, 0.97))
    assert (low <= high).all()
    assert high.sum() > low.sum()


def test_an_image_has_the_same_set_whatever_is_beside_it(scores, new):
    sets, logits = scores.sets(COVERAGE, NAMES, per_class=False), new[0]
    together = sets.of(*said(logits))
    alone = [sets.of(*said(logits[row : row + 1]))[0].tolist() for row in range(100)]
    assert together[:100].tolist() == alone
    turned = sets.of(*said(logits[::-1]))
    assert turned[::-1].tolist() == together.tolist()


def test_a_set_that_is_not_empty_holds_the_most_probable_label(scores, new):
    members = scores.sets(COVERAGE, NAMES, per_class=False).of(*said(new[0]))
    chosen = new[0].argmax(axis=1)
    assert members[np.arange(len(chosen)), chosen].tolist() == members.any(axis=1).tolist()


def test_empty_sets_are_those_of_the_least_likely_images_among_equally_confident_ones():
    """Their logits say the same of the classes, and differ in how much is seen of any."""
    generator = np.random.default_rng(3)
    evidence = np.sort(generator.uniform(5, 10, 400))[::-1]
    logits = evidence[:, None] + np.array([5.0, 0.0])
    scores = fit_label_scores(*said(logits), np.zeros(400, np.int64))
    found = scores.sets(0.9, ("a", "b"), per_class=False).of(*said(logits))
    assert found.any(axis=1).tolist() == [True] * 361 + [False] * 39 or found.any(axis=1).tolist() == (
        [True] * 360 + [False] * 40
    )


@pytest.mark.parametrize("per_class", [True, False])
def test_what_the_sets_of_the_split_measure_is_what_is_expected(val, scores, per_class):
    sets = scores.sets(COVERAGE, NAMES, per_class=per_class)
    sizes = sets.of(*said(val[0])).sum(axis=1)
    assert sets.expected_size == pytest.approx(sizes.mean(), abs=1e-4)


def test_with_many_classes_the_labels_of_classes_without_images_are_expected_too():
    labels = np.random.default_rng(0).integers(0, 90, 500)
    logits = np.random.default_rng(1).normal(size=(500, 100)) + 2 * np.eye(100)[labels]
    sets = fit_label_scores(*said(logits), labels).sets(COVERAGE, [str(each) for each in range(100)], per_class=False)
    sizes = sets.of(*said(logits)).sum(axis=1)
    assert sets.expected_size == pytest.approx(sizes.mean(), abs=1e-4)
    assert sizes.mean() > 10


def test_equal_sizes_of_few_sets_leave_an_interval():
    found = measure_sets(np.eye(5, dtype=bool), np.arange(5))
    assert found["set_size_low"] < found["set_size"] == 1.0 < found["set_size_high"] < 5


def test_many_images_get_the_sets_that_few_get(scores, new, monkeypatch):
    sets = scores.sets(COVERAGE, NAMES, per_class=False)
    whole = sets.of(*said(new[0]))
    monkeypatch.setattr(prediction_sets, "ROWS", 7)
    assert (sets.of(*said(new[0])) == whole).all()


def test_labels_are_listed_by_their_probability():
    assert ordered_labels(np.array([True, False, True, True]), np.array([0.1, 0.5, 0.3, 0.1]), NAMES) == [
        "cat",
        "ant",
        "dog",
    ]


def test_coverage_size_and_empty_sets_are_measured_with_intervals():
    members = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    labels = np.array([0, 0, 0, 0])
    found = measure_sets(members, labels)
    assert (found["set_coverage"], found["set_size"], found["empty_sets"]) == (0.5, 1.0, 0.25)
    for name in ("set_coverage", "set_size", "empty_sets"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    of_first, of_second = coverage_by_class(members, labels)
    assert of_first["set_coverage"] == 0.5
    assert of_second == {"set_coverage": None, "set_coverage_low": None, "set_coverage_high": None}


# --- the size of the split --------------------------------------------------------------------------------


def fitted(labels):
    labels = np.array(labels)
    logits = np.random.default_rng(0).normal(size=(len(labels), 4)) + 4 * np.eye(4)[labels]
    return fit_label_scores(*said(logits), labels)


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.9, 9), (0.95, 19), (0.99, 99), (0.97, 33)])
def test_a_split_that_is_too_small_says_how_many_images_it_takes(coverage, needed):
    assert fitted([0, 1, 2, 3] * 30).sets(coverage, NAMES, per_class=False)
    assert fitted(([0, 1, 2, 3] * 30)[:needed]).sets(coverage, NAMES, per_class=False)
    if needed > 1:
        with pytest.raises(
            CoverageError,
            match=rf"^coverage {coverage} takes {needed} validation images, and there are {needed - 1}; lower",
        ) as raised:
            fitted(([0, 1, 2, 3] * 30)[: needed - 1]).sets(coverage, NAMES, per_class=False)
        # What it advises is possible.
        advised = float(str(raised.value).partition("serve.coverage to ")[2].partition(" ")[0])
        assert coverage - 0.1 < advised < coverage
        assert fitted(([0, 1, 2, 3] * 30)[: needed - 1]).sets(advised, NAMES, per_class=False)


def test_per_class_the_smallest_class_counts_and_is_named():
    scores = fitted([0] * 30 + [1] * 30 + [2] * 18 + [3] * 25)
    assert scores.sets(0.9, NAMES, per_class=True)
    with pytest.raises(
        CoverageError, match=r"^coverage 0\.95 takes 19 validation images of class 'cat', and there are 18;"
    ):
        scores.sets(0.95, NAMES, per_class=True)


def test_a_class_without_validation_images_has_the_threshold_of_all(new):
    sets = fitted([0, 1, 2] * 20).sets(0.9, NAMES, per_class=False)
    assert len(set(sets.thresholds.tolist())) == 1
    assert sets.of(*said(new[0])).shape == (500, 4)


# --- in the reference -------------------------------------------------------------------------------------


def test_the_file_has_all_that_another_coverage_needs(tmp_path, val, new):
    reference = fit_reference(*val)
    reference.write(tmp_path / "reference.json")
    read = Reference.read(tmp_path / "reference.json")
    for coverage in (0.5, 0.9, 0.99):
        found, expected = (
            each.prediction_sets(Serve(coverage=coverage), NAMES, pytest.fail).of(*said(new[0]))
            for each in (read, reference)
        )
        assert found.tolist() == expected.tolist()


def test_of_a_coverage_that_is_too_high_a_line_is_told_and_there_are_no_sets(val):
    told = []
    assert fit_reference(*val).prediction_sets(Serve(coverage=0.9999), NAMES, told.append) is None
    (line,) = told
    assert line.startswith("no prediction sets: coverage 0.9999 takes 9,999 validation images, and there are 1,200;")
    assert line.endswith(
        "lower serve.coverage to 0.999 or less, or add such images, by preprocess.val_fraction for example"
    )


def test_a_reference_that_was_written_before_there_were_sets_has_none(val):
    assert replace(fit_reference(*val), label_scores=None).prediction_sets(Serve(), NAMES, pytest.fail) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 50.0, 5000.0]))
def test_whatever_the_logits_the_split_itself_is_covered(seed, scale):
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(size=(60, 4)).round(1) * scale, generator.integers(0, 4, 60)
    scores = fit_label_scores(*said(logits), labels)
    members = scores.sets(0.9, NAMES, per_class=False).of(*said(logits))
    assert members[np.arange(60), labels].mean() >= 0.9
