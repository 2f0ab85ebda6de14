"""How good a classifier is, from its logits and the true labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split.

    ``summary`` holds single metrics by name; ``per_class`` precision, recall, F1 and support by class
    name, the first three None for a class without images; ``confusion`` int64 [classes, classes] counts
    with true classes as rows; ``report`` is scikit-learn's classification report as text, of the classes
    with images. ``probabilities`` float [N, classes] and ``labels``, ``predicted`` int64 [N] are what they
    were made from.
    """

    summary: dict[str, float]
    per_class: dict[str, dict[str, float | None]]
    confusion: Ints
    report: str
    probabilities: Floats
    labels: Ints
    predicted: Ints

    @property
    def confidence(self) -> Floats:
        """Probability of the predicted class [N]."""
        rows = np.arange(len(self.predicted))
        return self.probabilities[rows, self.predicted]

    @property
    def mistakes(self) -> Ints:
        """Rows that were predicted wrongly, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order: Ints = wrong[np.argsort(-self.confidence[wrong], kind="stable")]
        return order


def measure(logits: Floats, labels: Ints, classes: tuple[str, ...], *, top_k: int, bins: int) -> Evaluation:
    """Evaluate ``logits`` [N, classes] against ``labels`` [N].

    The summary holds accuracy with its 95 % Wilson interval, macro precision, recall and F1, log-loss
    in nats, top-k accuracy (k at most the number of classes) and the expected calibration error. The macro
    averages are over the classes with images; where some have none, ``absent_classes`` is their number.
    """
    # Imported here: together they take seconds, which who only needs the types above does not wait for.
    from scipy.special import softmax
    from sklearn.metrics import classification_report, confusion_matrix, log_loss, precision_recall_fscore_support

    probabilities = softmax(logits.astype(np.float64), axis=1)
    predicted = probabilities.argmax(axis=1)
    numbers = np.arange(len(classes))
    confusion = confusion_matrix(labels, predicted, labels=numbers)
    correct = int((predicted == labels).sum())
    low, high = accuracy_interval(correct, len(labels))
    scores = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    present = np.unique(labels)
    precision, recall, f1 = (float(score[present].mean()) for score in scores[:3])
    k = min(top_k, len(classes))
    accuracy = correct / len(labels)
    # Two ways to the same number: a difference would mean that one of them is wrong.
    assert np.isclose(confusion.trace() / confusion.sum(), accuracy), "confusion matrix disagrees with accuracy"
    summary = {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "precision_macro": precision,
        "recall_macro": recall,
        "f1_macro": f1,
        "log_loss": float(log_loss(labels, probabilities, labels=numbers)),
        f"top_{k}_accuracy": top_k_accuracy(probabilities, labels, k),
        "calibration_error": expected_calibration_error(probabilities.max(axis=1), predicted == labels, bins),
        "images": len(labels),
    }
    per_class: dict[str, dict[str, float | None]] = {name: dict.fromkeys(SCORES) | {"support": 0.0} for name in classes}
    for label in present:
        per_class[classes[label]] = {
            **{name: float(score[label]) for name, score in zip(SCORES, scores[:3], strict=True)},
            "support": float(scores[3][label]),
        }
    names = [classes[label] for label in present]
    report = classification_report(labels, predicted, labels=present, target_names=names, digits=4, zero_division=0.0)
    absent = [name for name in classes if name not in set(names)]
    if absent:
        summary["absent_classes"] = len(absent)
        report += f"\nWithout images here, and in none of these metrics: {', '.join(absent)}\n"
    return Evaluation(summary, per_class, confusion, report, probabilities, labels, predicted)


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """The 95 % interval of the accuracy that ``correct`` right answers for ``images`` show (Wilson, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def top_k_accuracy(probabilities: Floats, labels: Ints, k: int) -> float:
    """Share of rows whose label is among the k most probable classes; ties count against the label.

    scikit-learn's function warns and fails where a label is missing from ``labels`` or k is all classes.
    """
    own = probabilities[np.arange(len(labels)), labels]
    rank = (probabilities >= own[:, None]).sum(axis=1)
    return float((rank <= k).mean())


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int) -> float:
    """Mean distance between confidence and accuracy over equally wide bins of confidence, weighted by size.

    ``confidence`` [N] is the probability of the predicted class, ``correct`` [N] says whether that was right. After
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    member = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(member, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))
