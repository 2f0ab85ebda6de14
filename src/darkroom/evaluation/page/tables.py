"""The numbers of a report."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.intervals import wilson
from darkroom.evaluation.metrics import SCORES, Evaluation, Floats
from darkroom.evaluation.slices import Slice
from darkroom.evaluation.training_curves import read_history

# Of more classes, the page lists the most frequent confusions and draws no matrix.
MAX_CELLS = 22_500
MAX_SLICES = 50
ENDS = ("_low", "_high")
CURVES = ("epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy")


def metric_rows(summary: Mapping[str, float]) -> list[dict[str, Any]]:
    """The metrics by their names, with their intervals where they have any."""
    return [
        {"name": name, "value": value, "low": summary.get(f"{name}_low"), "high": summary.get(f"{name}_high")}
        for name, value in summary.items()
        if not (name.endswith(ENDS) and name.removesuffix("_low").removesuffix("_high") in summary)
    ]


def confusion_cells(found: Evaluation) -> list[list[int]]:
    """True class, predicted class and images of each cell that has any, or of the fullest MAX_CELLS."""
    actual, predicted = found.confusion.nonzero()
    counts = found.confusion[actual, predicted]
    fullest = np.argsort(-counts, kind="stable")[:MAX_CELLS]
    cells: list[list[int]] = np.column_stack([actual, predicted, counts])[fullest].tolist()
    return cells


def class_rows(per_class: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """The scores of each class, in the order of the classes, as (value, low, high)."""
    return [
        {"support": row["support"]} | {score: [row[f"{score}{end}"] for end in ("", *ENDS)] for score in SCORES}
        for row in per_class.values()
    ]


def calibration_bins(confidence: Floats, correct: NDArray[np.bool_], bins: int) -> list[dict[str, float]]:
    """Mean confidence and accuracy of each of equally wide bins of ``confidence`` [N] that has images."""
    member = np.minimum((confidence * bins).astype(int), bins - 1)
    images = np.bincount(member, minlength=bins)
    sums, right = (np.bincount(member, weights=each, minlength=bins) for each in (confidence, correct))

    def rows() -> Iterator[dict[str, float]]:
        for number in np.flatnonzero(images).tolist():
            count = int(images[number])
            accuracy = float(right[number]) / count
            low, high = map(float, wilson(accuracy, count))
            yield {
                "confidence": float(sums[number]) / count, "accuracy": accuracy, "low": low, "high": high,
                "images": count,
            }  # fmt: skip

    return list(rows())


def slice_rows(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """The worst slices."""
    return [asdict(each) | {"named": each.is_named} for each in slices[:MAX_SLICES]]


def read_curves(path: Path, best_epoch: Mapping[str, Any]) -> dict[str, Any] | None:
    """Loss and accuracy of each epoch, from a history at ``path``.

    None if it is not there, not whole, or of another model: then ``best_epoch``, of the model's card, is not in it.
    """
    try:
        found = {name: [row[name] for row in history] for name in CURVES} if (history := read_history(path)) else {}
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return None
    is_own = best_epoch.get("val_loss") in found.get("val_loss", ())
    is_whole = all(math.isfinite(value) for values in found.values() for value in values)
    return found | {"best": best_epoch["epoch"]} if is_own and is_whole else None


def set_sizes(sets: NDArray[np.bool_], found: Evaluation) -> list[dict[str, float]]:
    """How many prediction sets, bool [N, classes], have each size, and how many of them hold the true class."""
    sizes = sets.sum(axis=1)
    holds = sets[np.arange(len(sets)), found.labels]
    return [
        {"size": size, "images": int((sizes == size).sum()), "right": int(holds[sizes == size].sum())}
        for size in np.unique(sizes).tolist()
    ]
