"""The predictions for the test images, as a table file."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import with_config

from darkroom.data.digests import Digests, as_hex, from_hex
from darkroom.evaluation.metrics import Evaluation, Floats, Ints
from darkroom.evaluation.prediction_sets import Members, ordered_labels
from darkroom.evaluation.slices import Slicing
from darkroom.utils.csv_files import read_csv, write_csv
from darkroom.utils.files import EXACT, digest

PREDICTIONS = "predictions.csv"
IDENTITY = "identity.json"
COLUMNS = (
    "image",
    "actual",
    "predicted",
    "correct",
    "confidence",
    "probability_of_actual",
    "calibrated_confidence",
    "calibrated_probability_of_actual",
    "digest",
    "prediction_set",
)
# Further columns begin so: the slices of the images by an attribute.
SLICE = "slice "


@with_config(EXACT)
@dataclass(frozen=True)
class Identity:
    """The files of an evaluation, as SHA-256: weights, data (the fingerprint) and predictions."""

    weights_sha256: str
    fingerprint: str
    predictions_sha256: str


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions of one model for a test split of N images.

    ``images`` names each image: its file, or its position; ``labels`` and ``predicted`` int64 [N] index ``classes``;
    ``confidence`` float64 [N] is the probability of the predicted class; ``digests`` uint8 [N, 16] are those of the
    images' contents, None if they were not recorded; ``slices`` are the slices that they are in, by attribute.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    labels: Ints
    predicted: Ints
    confidence: Floats
    digests: Digests | None = None
    slices: Slicing = field(default_factory=dict)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images were predicted correctly [N]."""
        return np.equal(self.predicted, self.labels)

    @property
    def split(self) -> str:
        """SHA-256 over the images' names, classes and order: equal for predictions that can be paired."""
        return digest([self.images, [self.classes[label] for label in self.labels]])


def write_predictions(
    found: Evaluation,
    calibrated: Floats,
    classes: Sequence[str],
    names: Sequence[str],
    path: Path,
    digests: Digests | None = None,
    slices: Slicing | None = None,
    sets: Members | None = None,
) -> None:
    """Write a line for each image; ``names`` are the names of the files, without which the position is the name.

    Writes the network's own probabilities and the ``calibrated`` ones [N, classes], which `darkroom predict` prints.
    ``digests`` uint8 [N, 16] are those of the images' contents, if the cache has any; ``slices`` are further columns.
    ``sets`` bool [N, classes] are the prediction sets, written as JSON lists.
    """
    slices = slices or {}
    contents = [""] * len(found.labels) if digests is None else list(as_hex(digests))
    every = np.arange(len(found.labels))
    columns = [
        probabilities[every, chosen]
        for probabilities in (found.probabilities, calibrated)
        for chosen in (found.predicted, found.labels)
    ]

    def rows() -> Iterator[list[object]]:
        for row, (label, guess) in enumerate(zip(found.labels, found.predicted, strict=True)):
            name = names[row] if names else row
            probabilities = [f"{column[row]:.6f}" for column in columns]
            own = [values[row] for values in slices.values()]
            labels = "" if sets is None else _as_list(ordered_labels(sets[row], calibrated[row], classes))
            right = int(label == guess)
            yield [name, classes[label], classes[guess], right, *probabilities, contents[row], labels, *own]

    write_csv(path, [*COLUMNS, *(f"{SLICE}{attribute}" for attribute in slices)], rows())


def read_predictions(path: Path, classes: Sequence[str]) -> SplitPredictions:
    """The predictions that ``write_predictions`` wrote for a model with ``classes``.

    Raises ValueError if a line lacks a column or names another class.
    """
    number = {name: index for index, name in enumerate(classes)}
    images, labels, predicted, confidence, contents = [], [], [], [], []
    slices: dict[str, list[str]] = defaultdict(list)
    for row in read_csv(path):
        try:
            labels.append(number[row["actual"]])
            predicted.append(number[row["predicted"]])
            confidence.append(float(row["confidence"]))
            images.append(row["image"])
            contents.append(row.get("digest") or "")
            for column, value in row.items():
                if column and column.startswith(SLICE):
                    slices[column.removeprefix(SLICE)].append(value or "")
        except KeyError as problem:
            raise ValueError(f"line {len(images) + 2}: no {problem}") from None
    return SplitPredictions(
        tuple(classes),
        tuple(images),
        np.array(labels, np.int64),
        np.array(predicted, np.int64),
        np.array(confidence),
        from_hex(contents),
        {attribute: np.array(values, dtype=object) for attribute, values in slices.items()},
    )


def _as_list(labels: Sequence[str]) -> str:
    return json.dumps(labels, ensure_ascii=False)
