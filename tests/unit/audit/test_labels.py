"""Labels judged by out-of-fold answers: what is wrong comes first, what is merely hard does not."""

import numpy as np
import pytest

from darkroom.audit.labels import judge_labels

CLASSES = 4


def answers(labels: np.ndarray, seed: int, sure: float) -> np.ndarray:
    """Logits of a model that knows the true labels, more or less."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), CLASSES))
    logits[np.arange(len(labels)), labels] += sure
    return logits


def flipped(true: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    wrong = generator.random(len(true)) < share
    return np.where(wrong, (true + generator.integers(1, CLASSES, len(true))) % CLASSES, true), wrong


def test_flipped_labels_are_ranked_first_and_suspected() -> None:
    true = np.arange(2000) % CLASSES
    labels, wrong = flipped(true, 0.1, 0)
    judged = judge_labels(answers(true, 1, 10.0), labels)
    first = judged.ranking[: wrong.sum()]
    assert wrong[first].mean() > 0.95
    assert judged.suspects[wrong].mean() > 0.95
    assert judged.suspects[~wrong].mean() < 0.02


def test_the_suggestion_is_the_true_class() -> None:
    true = np.arange(400) % CLASSES
    labels, wrong = flipped(true, 0.2, 2)
    judged = judge_labels(answers(true, 3, 8.0), labels)
    assert (judged.suggested[wrong] == true[wrong]).mean() > 0.95
    assert (judged.suggested != labels).all()


def test_a_class_that_is_seldom_recognized_is_not_all_suspicious() -> None:
    true = np.repeat([0, 1], 500)
    logits = np.zeros((1000, 2))
    logits[:, 0] = np.where(true == 0, 4.0, 0.5)  # class 1 is taken for class 0, by a little
    judged = judge_labels(logits, true)
    assert (judged.predicted[true == 1] == 0).all()
    assert not judged.suspects[true == 1].any()


def test_a_label_that_is_the_most_probable_one_is_not_suspected() -> None:
    labels = np.array([0, 0, 1, 1])
    # Class 1 is never believed in much, and the first image is taken for a little more than usual by it.
    logits = np.log([[0.55, 0.45], [0.95, 0.05], [0.6, 0.4], [0.6, 0.4]])
    judged = judge_labels(logits, labels)
    assert judged.probabilities[0, 1] > judged.belief[labels == 1].mean()
    assert judged.predicted[0] == labels[0]
    assert not judged.suspects[0]


def test_a_class_without_images_is_never_the_reason_for_a_suspicion() -> None:
    labels = np.zeros(10, np.int64)
    logits = np.zeros((10, 3))
    logits[:, 0] = 5
    logits[0] = [0, 9, 0]
    assert not judge_labels(logits, labels).suspects.any()


@pytest.mark.parametrize("sure", [4.0, 0.3])
def test_cleanlab_suspects_the_same_labels(sure: float) -> None:
    from cleanlab import filter as filters

    true = np.arange(3000) % CLASSES
    labels, _ = flipped(true, 0.1, 4)
    judged = judge_labels(answers(true, 5, sure), labels)
    theirs = filters.find_label_issues(labels, judged.probabilities, filter_by="confident_learning", n_jobs=1)
    assert (judged.suspects == theirs).all()


def test_cleanlab_ranks_labels_in_the_same_order() -> None:
    from cleanlab import rank

    true = np.arange(500) % CLASSES
    labels, _ = flipped(true, 0.1, 6)
    judged = judge_labels(answers(true, 7, 4.0), labels)
    theirs = rank.get_label_quality_scores(labels, judged.probabilities, method="self_confidence")
    assert (np.argsort(theirs, kind="stable") == judged.ranking).all()
