"""How good a classifier is, from its logits and the true labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.intervals import (
    Interval,
    calibration_interval,
    class_intervals,
    macro_intervals,
    mean_interval,
    share_interval,
)

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
SCORES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one split.

    ``summary`` holds single metrics by name; ``per_class`` precision, recall and F1, each with its interval
    (``recall_low``, ``recall_high``), and support by class name, all but the last None for a class without images;
    ``confusion`` int64 [classes, classes] counts with true classes as rows; ``report`` is scikit-learn's
    classification report as text, of the classes with images, and a table of the intervals. ``probabilities`` float
    [N, classes] and ``labels``, ``predicted`` int64 [N] are what they were made from.
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

    The summary holds accuracy, macro precision, recall and F1, log-loss in nats, top-k accuracy (k at most the number
    of classes) and the expected calibration error, each with its 95 % interval as ``…_low`` and ``…_high``. The macro
    averages are over the classes with images; where some have none, ``absent_classes`` is their number.
    """
    # Imported here: together they take seconds, which who only needs the types above does not wait for.
    from scipy.special import softmax
    from sklearn.metrics import classification_report, confusion_matrix, log_loss, precision_recall_fscore_support

    probabilities = softmax(logits.astype(np.float64), axis=1)
    predicted = probabilities.argmax(axis=1)
    numbers = np.arange(len(classes))
    confusion = confusion_matrix(labels, predicted, labels=numbers)
    correct, confidence = predicted == labels, probabilities.max(axis=1)
    *scores, support = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    present = np.unique(labels)
    macro = {name: float(score[present].mean()) for name, score in zip(SCORES, scores, strict=True)}
    k = min(top_k, len(classes))
    accuracy = float(correct.mean())
    # Two ways to the same number: a difference would mean that one of them is wrong.
    assert np.isclose(confusion.trace() / confusion.sum(), accuracy), "confusion matrix disagrees with accuracy"
    in_top_k = top_k_accuracy(probabilities, labels, k)
    of_macro, of_classes = macro_intervals(confusion), class_intervals(confusion)
    metrics = {
        "accuracy": (accuracy, share_interval(accuracy, len(labels))),
        **{f"{name}_macro": (macro[name], of_macro[name]) for name in SCORES},
        "log_loss": (
            float(log_loss(labels, probabilities, labels=numbers)),
            mean_interval(_losses(probabilities, labels)),
        ),
        f"top_{k}_accuracy": (in_top_k, share_interval(in_top_k, len(labels))),
        "calibration_error": (
            expected_calibration_error(confidence, correct, bins),
            calibration_interval(confidence, correct, bins),
        ),
    }
    summary: dict[str, float] = {}
    for name, (value, interval) in metrics.items():
        summary |= with_interval(name, value, interval)
    summary["images"] = len(labels)
    per_class: dict[str, dict[str, float | None]] = {}
    for label, name in enumerate(classes):
        row: dict[str, float | None] = {}
        for score, values in zip(SCORES, scores, strict=True):
            low, high = of_classes[score]
            row |= with_interval(score, float(values[label]), (float(low[label]), float(high[label])))
        per_class[name] = (row if support[label] else dict.fromkeys(row)) | {"support": float(support[label])}
    names = [classes[label] for label in present]
    report = classification_report(labels, predicted, labels=present, target_names=names, digits=4, zero_division=0.0)
    report += _interval_table(per_class, names, summary)
    absent = [name for name in classes if name not in set(names)]
    if absent:
        summary["absent_classes"] = len(absent)
        report += f"\nWithout images here, and in none of these metrics: {', '.join(absent)}\n"
    return Evaluation(summary, per_class, confusion, report, probabilities, labels, predicted)


def accuracy_interval(correct: int, images: int) -> Interval:
    """The 95 % interval of the accuracy that ``correct`` right answers for ``images`` show (Wilson, 1927)."""
    return share_interval(correct / images, images)


def best_guess(labels: Ints, classes: Sequence[str]) -> tuple[str, float]:
    """The most frequent class of ``labels`` [N], and the accuracy of always answering it."""
    counts = np.bincount(labels, minlength=len(classes))
    return classes[int(counts.argmax())], float(counts.max() / len(labels))


def with_interval(name: str, value: float, interval: Interval) -> dict[str, float]:
    """A metric by its name, and the ends of its interval."""
    low, high = interval
    return {name: value, f"{name}_low": low, f"{name}_high": high}


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


def _losses(probabilities: Floats, labels: Ints) -> Floats:
    """The loss of each image in nats [N], of which the log loss is the mean: at most 36, as scikit-learn limits it."""
    own = probabilities[np.arange(len(labels)), labels]
    losses: Floats = -np.log(np.maximum(own, np.finfo(own.dtype).eps))
    return losses


def _interval_table(per_class: dict[str, dict[str, float | None]], names: list[str], summary: dict[str, float]) -> str:
    """The intervals of accuracy, macro averages and the classes ``names`` as text, in the columns of the report."""
    width = max(map(len, (*names, "macro avg")))

    def ends(row: Mapping[str, float | None], metric: str) -> str:
        return f"{row[f'{metric}_low']:.4f} to {row[f'{metric}_high']:.4f}"

    def line(name: str, *cells: str) -> str:
        return f"{name:>{width}}" + "".join(f"{cell:>18}" for cell in cells)

    return "\n".join(
        [
            "",
            "95 % intervals",
            "",
            line("", "precision", "recall", "f1-score"),
            "",
            *(line(name, *(ends(per_class[name], score) for score in SCORES)) for name in names),
            "",
            line("accuracy", "", "", ends(summary, "accuracy")),
            line("macro avg", *(ends(summary, f"{score}_macro") for score in SCORES)),
            "",
        ]
    )
