"""The intervals of metrics agree with other ways to them, and cover the true values as often as they promise."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from tests.unit.evaluation.simulated import CASES, DRAWS, Case, coverage

from darkroom.evaluation.intervals import (
    Z,
    calibration_interval,
    class_intervals,
    macro_intervals,
    mean_interval,
    mean_share_interval,
    share_interval,
    wilson,
)


@pytest.mark.parametrize(("correct", "images"), [(0, 1), (0, 7), (7, 7), (1, 2), (90, 100), (9_731, 10_000)])
def test_the_interval_of_a_share_is_that_of_scipy(correct: int, images: int) -> None:
    expected = binomtest(correct, images).proportion_ci(0.95, method="wilson")

    low, high = share_interval(correct / images, images)

    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert low <= correct / images <= high


def test_no_images_say_nothing_about_a_share() -> None:
    low, high = wilson([0.0, 0.5], [0, 10])

    assert (low[0], high[0]) == (0, 1)
    assert 0 < low[1] < 0.5 < high[1] < 1


def test_the_scores_of_a_class_are_shares_of_its_images() -> None:
    # Of 40 cats 36 are found, and 45 are predicted as cats: 36 of 49 are both.
    found = class_intervals(np.array([[36, 4], [9, 51]]))

    low, high = share_interval(36 / 49, 49)
    assert [bound[0] for bound in found["recall"]] == pytest.approx(share_interval(36 / 40, 40))
    assert [bound[0] for bound in found["precision"]] == pytest.approx(share_interval(36 / 45, 45))
    assert [bound[0] for bound in found["f1"]] == pytest.approx([2 * low / (1 + low), 2 * high / (1 + high)])


def test_macro_recall_of_equal_classes_is_nearly_a_share_of_all_images() -> None:
    found = macro_intervals(np.array([[950, 50], [50, 950]]))

    assert found["recall"] == pytest.approx(share_interval(0.95, 2_000), abs=1e-4)
    assert found["precision"] == pytest.approx(share_interval(0.95, 2_000), abs=1e-4)
    assert found["f1"] == pytest.approx(share_interval(0.95, 2_000), abs=1e-4)


def test_macro_averages_without_a_mistake_have_the_interval_of_a_share() -> None:
    for interval in macro_intervals(np.diag([100, 100, 100])).values():
        assert interval == pytest.approx(share_interval(1.0, 300))


def test_a_class_without_images_does_not_count() -> None:
    confusion = np.array([[80, 20], [10, 90]])
    with_absent = np.zeros((3, 3), np.int64)
    with_absent[:2, :2] = confusion

    found, expected = macro_intervals(with_absent), macro_intervals(confusion)

    for name, interval in expected.items():
        assert found[name] == pytest.approx(interval)


def test_the_interval_of_a_mean_is_that_of_student_without_skewness() -> None:
    values = np.array([1.0, 2.0, 3.0] * 300)
    half = Z * values.std() / math.sqrt(900)

    assert mean_interval(values) == pytest.approx((2 - half, 2 + half), rel=1e-4)


def test_the_interval_of_a_mean_reaches_further_towards_the_tail() -> None:
    low, high = mean_interval(np.array([0.0] * 95 + [5.0] * 5))

    assert 0 < 0.25 - low < high - 0.25


@pytest.mark.parametrize("images", [2, 7, 30])
def test_equal_shares_have_the_interval_of_a_share(images: int) -> None:
    assert mean_share_interval(np.full(images, 0.2)) == pytest.approx(share_interval(0.2, images))


def test_shares_of_few_images_that_happen_to_be_alike_leave_an_interval() -> None:
    low, high = mean_share_interval(np.array([0.6, 0.63]))
    assert low < 0.59
    assert high > 0.64


def test_a_mean_of_equal_values_is_all_that_is_known() -> None:
    assert mean_interval(np.full(9, 0.5)) == (0.5, 0.5)


def test_a_calibrated_model_may_have_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 2_000)

    low, high = calibration_interval(confidence, generator.random(2_000) < confidence, 15)

    assert (low, high < 0.05) == (0, True)


def test_a_model_that_is_always_sure_and_often_wrong_has_a_calibration_error() -> None:
    low, high = calibration_interval(np.full(1_000, 0.99), np.arange(1_000) % 2 == 0, 15)

    assert low < 0.49 < high
    assert high - low == pytest.approx(2 * 0.032, abs=0.01)


def test_a_calibration_error_without_a_mistake_reaches_as_far_as_the_accuracy_may() -> None:
    low, high = calibration_interval(np.ones(100), np.ones(100, bool), 15)

    assert low == 0
    assert high == pytest.approx(1 - share_interval(1.0, 100)[0])


def test_calibration_intervals_are_the_same_each_time() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 500)
    correct = generator.random(500) < 0.8

    assert calibration_interval(confidence, correct, 15) == calibration_interval(confidence, correct, 15)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_intervals_cover_as_often_as_they_promise(case: Case, long: bool) -> None:
    draws = DRAWS if long else 100
    # With fewer draws, chance adds to the 1.5 points: three standard deviations.
    allowed = 0.015 if long else 0.015 + 3 * math.sqrt(0.95 * 0.05 / draws)

    for name, share in coverage(case, draws).items():
        assert abs(share - 0.95) <= allowed, name
