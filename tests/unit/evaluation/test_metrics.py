"""Every metric agrees with its definition, computed another way."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.evaluation.metrics import Evaluation, expected_calibration_error, measure, top_k_accuracy

CLASSES = ("cat", "dog", "owl")
# Logarithms of probabilities are logits that give just these probabilities.
PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],  # cat, right
        [0.6, 0.3, 0.1],  # cat, is dog
        [0.1, 0.8, 0.1],  # dog, right
        [0.3, 0.5, 0.2],  # dog, right
        [0.1, 0.0001, 0.8999],  # owl, is dog
    ]
)
LABELS = np.array([0, 1, 1, 1, 1])


def measured(
    logits: Any, labels: Any, classes: tuple[str, ...] = CLASSES, top_k: int = 2, bins: int = 10
) -> Evaluation:
    return measure(np.asarray(logits), np.asarray(labels, dtype=np.int64), classes, top_k=top_k, bins=bins)


@pytest.fixture
def small() -> Evaluation:
    return measured(np.log(PROBABILITIES).astype(np.float32), LABELS)


def test_the_counts_are_those_of_the_hand(small: Evaluation) -> None:
    assert small.confusion.tolist() == [[1, 0, 0], [1, 2, 1], [0, 0, 0]]
    assert small.predicted.tolist() == [0, 0, 1, 1, 2]
    assert small.mistakes.tolist() == [4, 1]
    assert (small.summary["accuracy"], small.summary["images"]) == (0.6, 5)


def test_the_scores_of_each_class_are_those_of_the_hand(small: Evaluation) -> None:
    # cat: 1 of 2 found is right, 1 of 1 is found. dog: 2 of 2 right, 2 of 4 found. owl: none is there to find.
    without_intervals = {
        name: {key: value for key, value in row.items() if not key.endswith(("_low", "_high"))}
        for name, row in small.per_class.items()
    }
    assert without_intervals == {
        "cat": pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}),
        "dog": pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 4}),
        "owl": {"precision": None, "recall": None, "f1": None, "support": 0},
    }


def test_each_score_of_a_class_has_its_interval(small: Evaluation) -> None:
    for score in ("precision", "recall", "f1"):
        for name in ("cat", "dog"):
            row = small.per_class[name]
            assert row[f"{score}_low"] <= row[score] <= row[f"{score}_high"]
        assert small.per_class["owl"][f"{score}_low"] is small.per_class["owl"][f"{score}_high"] is None


def test_each_metric_stands_before_its_interval(small: Evaluation) -> None:
    names = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "log_loss", "top_2_accuracy")
    expected = [f"{name}{end}" for name in (*names, "calibration_error") for end in ("", "_low", "_high")]

    assert list(small.summary) == [*expected, "images", "absent_classes"]


def test_the_report_has_a_table_of_the_intervals(small: Evaluation) -> None:
    lines = small.report.splitlines()
    table = lines[lines.index("95 % intervals") :]
    (dog,) = (line.split("  ") for line in table if line.strip().startswith("dog"))
    row, summary = small.per_class["dog"], small.summary

    assert dog[-2].strip() == f"{row['recall_low']:.4f} to {row['recall_high']:.4f}"
    assert any(line.endswith(f"{summary['f1_macro_low']:.4f} to {summary['f1_macro_high']:.4f}") for line in table)
    assert any(line.endswith(f"{summary['accuracy_low']:.4f} to {summary['accuracy_high']:.4f}") for line in table)


def test_macro_averages_are_over_the_classes_with_images(small: Evaluation) -> None:
    assert small.summary["precision_macro"] == pytest.approx(0.75)
    assert small.summary["recall_macro"] == pytest.approx(0.75)
    assert small.summary["f1_macro"] == pytest.approx(2 / 3)
    assert small.summary["absent_classes"] == 1


def test_no_class_is_called_absent_where_each_has_images() -> None:
    assert "absent_classes" not in measured(np.log(PROBABILITIES[:3]), [0, 1, 2]).summary


def test_log_loss_is_the_mean_of_what_the_right_class_was_given(small: Evaluation) -> None:
    expected = -math.log(0.7 * 0.3 * 0.8 * 0.5 * 0.0001) / 5

    assert small.summary["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_confidence_is_the_probability_of_the_prediction(small: Evaluation) -> None:
    assert small.confidence == pytest.approx([0.7, 0.6, 0.8, 0.5, 0.8999], rel=1e-5)


def test_top_k_is_named_after_its_k_and_counts_the_first_k(small: Evaluation) -> None:
    # Among the first two are all but the last row, whose dog has the least.
    assert small.summary["top_2_accuracy"] == pytest.approx(0.8)


def test_top_k_is_at_most_the_number_of_classes() -> None:
    summary = measured(np.log(PROBABILITIES), LABELS, top_k=50).summary

    assert [key for key in summary if key.startswith("top_") and key.endswith("accuracy")] == ["top_3_accuracy"]
    assert summary["top_3_accuracy"] == 1.0


@pytest.mark.parametrize(("correct", "count"), [(0, 7), (7, 7), (1, 2), (90, 100), (9_731, 10_000)])
def test_the_interval_is_wilsons(correct: int, count: int) -> None:
    labels = np.zeros(count, dtype=np.int64)
    logits = np.zeros((count, 2))
    logits[:, 1] = 1.0
    logits[:correct, 1] = -1.0
    z, share = 1.959963984540054, correct / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)

    summary = measured(logits, labels, ("a", "b")).summary

    assert summary["accuracy_low"] == pytest.approx(max(0.0, middle - half), abs=1e-12)
    assert summary["accuracy_high"] == pytest.approx(min(1.0, middle + half), abs=1e-12)


def random_evaluation(classes: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    logits = generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.0
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("k", [1, 2, 3, 7, 10])
def test_top_k_accuracy_agrees_with_sorting(k: int) -> None:
    probabilities, labels = random_evaluation(10, 300)
    best = np.argsort(probabilities, axis=1)[:, ::-1][:, :k]

    assert top_k_accuracy(probabilities, labels, k) == pytest.approx(np.mean([*map(np.isin, labels, best)]))


def test_a_tie_counts_against_the_label() -> None:
    assert top_k_accuracy(np.full((4, 4), 0.25), np.arange(4), 3) == 0.0


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins)


@pytest.mark.parametrize("bins", [2, 5, 15, 100])
@pytest.mark.parametrize("classes", [2, 10])
def test_the_calibration_error_agrees_with_a_plain_loop(classes: int, bins: int) -> None:
    probabilities, labels = random_evaluation(classes, 500)
    expected = 0.0
    for number in range(bins):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if number / bins <= row.max() < (number + 1) / bins
        ]
        if inside:
            confidence, right = np.mean(inside, axis=0)
            expected += len(inside) / len(labels) * abs(right - confidence)

    assert calibration_error(probabilities, labels, bins) == pytest.approx(expected)


@pytest.mark.parametrize(("right", "expected"), [(True, 0.0), (False, 1.0)])
def test_certainty_is_calibrated_only_where_it_is_right(right: bool, expected: float) -> None:
    probabilities = np.array([[1.0, 0.0]] * 5)

    assert calibration_error(probabilities, np.full(5, 0 if right else 1), 10) == expected


def test_certainty_belongs_to_the_last_bin() -> None:
    probabilities = np.array([[1.0, 0.0], [0.9, 0.1]])

    # Together in the bin above 0.5 they are 95 % sure and right in one of two; apart it would be 0.55.
    assert calibration_error(probabilities, np.array([1, 0]), 2) == pytest.approx(0.45)


def test_huge_logits_are_certain_and_finite() -> None:
    found = measured([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], [0, 0])

    assert found.summary["accuracy"] == 0.5
    assert all(math.isfinite(value) for value in found.summary.values())


@pytest.mark.parametrize("classes", [("accuracy", "macro avg"), ("weighted avg", "micro avg"), ("support", "f1")])
def test_classes_may_be_called_like_a_metric(classes: tuple[str, ...]) -> None:
    found = measured([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], [0, 1, 1], classes)

    assert list(found.per_class) == list(classes)
    assert [row["support"] for row in found.per_class.values()] == [1, 2]
    assert all(name in found.report for name in classes)


def test_a_class_without_images_is_measured_without_a_warning() -> None:
    found = measured([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 0])

    assert found.summary["accuracy"] == 1.0
    assert found.per_class["owl"].pop("support") == 0.0
    assert set(found.per_class["owl"].values()) == {None}
    assert (found.summary["recall_macro"], found.summary["f1_macro"]) == (1.0, 1.0)
    assert "Without images here, and in none of these metrics: dog, owl" in found.report
    assert all(math.isfinite(value) for value in found.summary.values())


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    classes, count = draw(st.integers(2, 6)), draw(st.integers(1, 30))
    rows = st.lists(st.floats(-50, 50, width=32), min_size=classes, max_size=classes)
    logits = draw(st.lists(rows, min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return measured(
        np.array(logits, dtype=np.float32), labels, tuple("abcdef"[:classes]), top_k=draw(st.integers(2, 8))
    )


def test_the_figures_of_an_evaluation_agree_with_each_other(long: bool) -> None:
    @settings(max_examples=60 if long else 20, deadline=None)
    @given(evaluations())
    def check(found: Evaluation) -> None:
        count, summary = len(found.labels), found.summary

        assert found.confusion.sum() == count
        assert found.confusion.trace() / count == pytest.approx(summary["accuracy"])
        assert [row["support"] for row in found.per_class.values()] == found.confusion.sum(axis=1).tolist()
        bounded = [key.removesuffix("_low") for key in summary if key.endswith("_low")]
        assert len(bounded) == 7
        for key in bounded:
            assert 0 <= summary[f"{key}_low"] <= summary[f"{key}_high"]
            # What chance adds to a calibration error is taken off its interval.
            if key != "calibration_error":
                assert summary[f"{key}_low"] <= summary[key] + 1e-12
                assert summary[key] <= summary[f"{key}_high"] + 1e-12
        assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(count))
        unbounded = {"log_loss", "log_loss_low", "log_loss_high", "images", "absent_classes"}
        assert all(0 <= value <= 1 for key, value in summary.items() if key not in unbounded)

    check()


def test_the_mistakes_are_the_wrong_rows_the_most_confident_first(long: bool) -> None:
    @settings(max_examples=60 if long else 20, deadline=None)
    @given(evaluations())
    def check(found: Evaluation) -> None:
        wrong = {row for row in range(len(found.labels)) if found.labels[row] != found.predicted[row]}

        assert set(found.mistakes.tolist()) == wrong
        assert len(found.mistakes) == len(wrong)
        sure = found.probabilities.max(axis=1)[found.mistakes]
        assert (np.diff(sure) <= 0).all()

    check()
