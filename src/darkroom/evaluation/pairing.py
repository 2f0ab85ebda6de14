"""Pair the test images that two models of different datasets have in common, by the contents of the images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from darkroom.data.digests import match, number
from darkroom.evaluation.comparison import Comparison
from darkroom.evaluation.metrics import Ints
from darkroom.evaluation.predictions import SplitPredictions


@dataclass(frozen=True)
class Pairing:
    """The ``comparison`` of two models on the N images that count, and what was left out.

    An image counts if it is in the test split of both datasets, with the same class. Those that only one model was
    tested on may be images that the other one has learned from. ``rows`` int64 [N] are the positions of the images in
    the second model's test split, ``images`` how many either split has, ``relabeled`` how many are in both but of
    another class in each.
    """

    comparison: Comparison
    rows: Ints
    images: tuple[int, int]
    relabeled: int = 0

    @property
    def found(self) -> str:
        """How many images count, in words."""
        first, second = self.images
        relabeled = f", less {self.relabeled:,} of another class in each" if self.relabeled else ""
        return f"{len(self.rows):,} test images are in both test splits ({first:,} and {second:,} images){relabeled}"

    def as_json(self) -> dict[str, int]:
        return {
            "shared": len(self.rows),
            "relabeled": self.relabeled,
            **{f"images_of_{side}": count for side, count in zip("ab", self.images, strict=True)},
        }


def pair_equal(a: SplitPredictions, b: SplitPredictions) -> Pairing:
    """Pair two models of the same dataset. Raises ValueError if their test images or classes are not the same."""
    return Pairing(Comparison(a, b), np.arange(len(b.labels)), (len(a.labels), len(b.labels)))


def pair_shared(a: SplitPredictions, b: SplitPredictions) -> Pairing:
    """Pair two models by the contents of their test images; copies of an image are paired one to one.

    Classes are those of ``b`` and after them those that ``a`` alone knows, by name: an answer that only one model can
    give is wrong where it gives it. Raises ValueError if the contents of either's images are not known.
    """
    if a.digests is None or b.digests is None:
        raise ValueError("the contents of their test images were not recorded")
    numbers_a, numbers_b = number(a.digests, b.digests)
    classes = tuple(dict.fromkeys((*b.classes, *a.classes)))
    a, b = _with_classes(a, classes), _with_classes(b, classes)
    rows_a, rows_b = match([numbers_a, a.labels], [numbers_b, b.labels])
    same = a.labels[rows_a] == b.labels[rows_b]
    names = [b.images[row] for row in rows_b[same].tolist()]
    first, second = _taken(a, rows_a[same], names), _taken(b, rows_b[same], names)
    images = len(a.labels), len(b.labels)
    return Pairing(Comparison(first, second), rows_b[same], images, relabeled=int((~same).sum()))


def _with_classes(answers: SplitPredictions, classes: Sequence[str]) -> SplitPredictions:
    """The same predictions with the class indices of ``classes``."""
    places = {name: place for place, name in enumerate(classes)}
    numbers = np.array([places[name] for name in answers.classes], np.int64)
    return replace(
        answers, classes=tuple(classes), labels=numbers[answers.labels], predicted=numbers[answers.predicted]
    )


def _taken(answers: SplitPredictions, rows: Ints, names: Sequence[str]) -> SplitPredictions:
    """The predictions for some images, under the names that they have in both datasets."""
    return replace(
        answers,
        images=tuple(names),
        labels=answers.labels[rows],
        predicted=answers.predicted[rows],
        confidence=answers.confidence[rows],
        digests=None,
        slices={attribute: values[rows] for attribute, values in answers.slices.items()},
    )
