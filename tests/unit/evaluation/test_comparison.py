"""Two models on the same images: every metric is the standard one, and holds for small samples."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from darkroom.evaluation.comparison import Comparison, lower_bound, mcnemar
from darkroom.evaluation.predictions import SplitPredictions

CLASSES = ("cat", "dog", "owl")


def answers(predicted, labels, *, confidence=0.8, classes=CLASSES, images=None):
    labels, predicted = np.array(labels, np.int64), np.array(predicted, np.int64)
    names = images or tuple(map(str, range(len(labels))))
    return SplitPredictions(classes, names, labels, predicted, np.broadcast_to(np.float64(confidence), labels.shape))


LABELS = [0, 0, 0, 0, 1, 1, 1, 2]
A = answers([0, 0, 1, 1, 1, 1, 1, 0], LABELS)
B = answers([0, 0, 0, 0, 1, 1, 2, 1], LABELS)


def test_the_table_counts_who_is_right_where():
    found = Comparison(A, B)

    assert found.table == [[4, 1], [2, 1]]
    assert found.difference == pytest.approx(6 / 8 - 5 / 8)
    assert found.disagreements.tolist() == [2, 3, 6, 7]  # the last one both have wrong, each in its own way


def test_each_class_has_its_change_of_recall():
    before, after = Comparison(A, B).recalls

    assert before.tolist() == pytest.approx([2 / 4, 3 / 3, 0 / 1])
    assert after.tolist() == pytest.approx([4 / 4, 2 / 3, 0 / 1])


def test_a_class_without_test_images_has_no_recall_and_no_change():
    labels = [0, 0, 1]
    found = Comparison(answers([0, 2, 1], labels), answers([0, 0, 1], labels)).as_json(alpha=0.05, bins=5)

    assert found["recall"]["owl"] == {"a": None, "b": None, "change": None, "images": 0}


def test_the_confusion_matrices_have_true_classes_as_rows():
    before, after = Comparison(A, B).confusions

    assert before.tolist() == [[2, 2, 0], [0, 3, 0], [1, 0, 0]]
    assert after.tolist() == [[4, 0, 0], [0, 2, 1], [0, 1, 0]]


def test_the_p_of_mcnemars_test_is_that_of_a_fair_coin():
    # Nine of ten coins fall on one side: (10 + 1) / 1024, and as many on the other.
    assert mcnemar(1, 9, "greater") == pytest.approx(11 / 1024)
    assert mcnemar(1, 9, "two-sided") == pytest.approx(22 / 1024)
    assert mcnemar(9, 1, "greater") == pytest.approx(1023 / 1024)
    assert mcnemar(5, 5, "two-sided") == pytest.approx(1.0)


def test_the_p_of_a_comparison_asks_whether_the_second_model_is_better():
    labels = [0] * 20
    worse, better = answers([1] * 12 + [0] * 8, labels), answers([0] * 20, labels)

    assert Comparison(worse, better).p_better == pytest.approx(2**-12)
    assert Comparison(better, worse).p_better == 1.0
    assert Comparison(better, worse).p_different == pytest.approx(2**-11)


@pytest.mark.parametrize("wrong", [0, 5, 30])
def test_models_that_answer_alike_differ_in_nothing(wrong):
    labels = [0] * 30
    same = answers([1] * wrong + [0] * (30 - wrong), labels)
    found = Comparison(same, same)

    assert (found.p_better, found.p_different, found.difference) == (1.0, 1.0, 0.0)
    assert found.difference_interval() == (0.0, 0.0)
    assert found.at_worst(0.05) < 0  # 30 images cannot show that two models are equally good
    json.dumps(found.as_json(alpha=0.05, bins=10), allow_nan=False)


def test_a_model_that_is_always_right_against_one_that_never_is():
    labels = [0] * 30
    found = Comparison(answers([1] * 30, labels), answers([0] * 30, labels))

    assert found.difference == 1.0
    assert found.difference_interval() == (1.0, 1.0)
    json.dumps(found.as_json(alpha=0.05, bins=10), allow_nan=False)


def test_the_interval_of_the_difference_is_that_of_pairs():
    generator = np.random.default_rng(3)
    labels = np.zeros(4_000, int)
    first = generator.random(4_000) < 0.3
    second = first ^ (generator.random(4_000) < 0.02)
    found = Comparison(answers(first, labels), answers(second, labels))

    low, high = found.difference_interval()

    gains = found.only_b.astype(float) - found.only_a
    # For a mean of 4,000 the normal distribution says the same.
    deviation = gains.std() / np.sqrt(4_000)
    assert (low, high) == pytest.approx((gains.mean() - 1.96 * deviation, gains.mean() + 1.96 * deviation), abs=3e-4)
    # Were the images drawn for each model by itself, it would be five times as wide.
    assert high - low < 0.3 * 2 * 1.96 * np.sqrt(2 * 0.3 * 0.7 / 4_000)


def test_the_same_answers_give_the_same_interval():
    assert Comparison(A, B).difference_interval() == Comparison(A, B).difference_interval()


def test_the_calibration_error_is_each_models_own():
    labels = [0] * 10
    sure, unsure = (
        answers([0] * 5 + [1] * 5, labels, confidence=0.9),
        answers([0] * 5 + [1] * 5, labels, confidence=0.5),
    )

    assert Comparison(sure, unsure).calibration_errors(10) == pytest.approx((0.4, 0.0))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (answers([0] * 7, LABELS[:7]), r"test images differ \(8 and 7"),
        (answers([0] * 8, LABELS[::-1]), "test images differ"),
        (answers([0] * 8, LABELS, images=tuple("abcdefgh")), "test images differ"),
        (answers([0] * 8, LABELS, classes=("cat", "owl", "dog")), r"classes differ \(3: cat, dog, owl and 3: cat, owl"),
    ],
)
def test_answers_for_other_images_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        Comparison(A, other)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.floats(0.001, 0.4))
def test_the_lower_bound_lies_below_what_was_seen(losses, gains, others, alpha):
    images = losses + gains + others + 1

    assert -1 <= lower_bound(losses, gains, images, alpha) < (gains - losses) / images


def test_the_lower_bound_without_discordant_images_is_known_in_closed_form():
    # None among n images: their share is below 1 - r ** (1 / n), but for the rate r: a fifth of alpha, on two sides.
    assert lower_bound(0, 0, 360, 0.05) == pytest.approx(0.005 ** (1 / 360) - 1)


@pytest.mark.parametrize(("losses", "gains"), [(250, 250), (240, 270), (270, 240)])
def test_the_lower_bound_of_models_about_as_good_is_near_that_of_the_normal_distribution(losses, gains):
    images, difference = 10_000, (gains - losses) / 10_000
    normal = difference - 1.645 * np.sqrt((losses + gains) / images - difference**2) / np.sqrt(images)

    assert 1.0 < (difference - lower_bound(losses, gains, images, 0.05)) / (difference - normal) < 1.5


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(("loses", "gains"), [(0.1, 0.1), (0.02, 0.02), (0.05, 0.005), (0.3, 0.4), (0.01, 0.0)])
def test_the_lower_bound_is_wrong_at_most_at_its_rate(alpha, loses, gains):
    """Not by simulation: the probability of every outcome of 60 images is summed where the bound is wrong."""
    images, wrong = 60, 0.0
    for lost in range(images + 1):
        rest = images - lost
        gained = np.arange(rest + 1)
        chance = binom.pmf(lost, images, loses) * binom.pmf(gained, rest, gains / (1 - loses))
        wrong += chance[lower_bound(lost, gained, images, alpha) > gains - loses].sum()

    assert wrong <= alpha
