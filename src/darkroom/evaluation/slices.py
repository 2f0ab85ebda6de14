"""The accuracy on slices of the test split: images that have something in common besides their class."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.errors import counted
from darkroom.evaluation.intervals import wilson
from darkroom.evaluation.metrics import Floats, Ints, accuracy_interval

# For each attribute the slice of each image, text [N]; "" for an image that is in none of its slices.
Slicing = Mapping[str, NDArray[np.object_]]

# Of a smaller slice, the accuracy is hardly known, and every slice makes the correction stricter for the others.
MIN_IMAGES = 20
# The risk that any slice is named although the model is as good on all of them.
ALPHA = 0.02
MAX_NAMED = 3


@dataclass(frozen=True)
class Slice:
    """A slice of the test split, its accuracy with the 95 % interval (Wilson), and whether that is too low by chance.

    ``p`` is how likely as many images, drawn at random from the split, hold at least as many mistakes; ``p_corrected``
    takes into account how many slices were looked at.
    """

    attribute: str
    value: str
    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    p: float
    p_corrected: float

    @property
    def is_named(self) -> bool:
        return self.p_corrected < ALPHA

    def __str__(self) -> str:
        return f"{self.attribute} {self.value}"


def large_slices(slicing: Slicing) -> Iterator[tuple[str, str, Ints]]:
    """Attribute, value and rows int64 [n] of each slice of at least MIN_IMAGES images that does not hold them all."""
    for attribute, values in slicing.items():
        # Sorting texts would take most of the time.
        numbers: dict[str, int] = {}
        member = np.array([numbers.setdefault(text, len(numbers)) for text in values.tolist()])
        parts = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
        for text, rows in zip(numbers, parts, strict=True):
            if text and MIN_IMAGES <= len(rows) < len(values):
                yield attribute, text, rows


def find_slices(correct: NDArray[np.bool_], slices: Iterable[tuple[str, str, Ints]]) -> list[Slice]:
    """The ``large_slices`` with their accuracy, the lowest first, from which images are ``correct`` [N].

    Each is tested against all other images: Fisher's exact test, one-sided, which is the hypergeometric distribution of
    the mistakes. The p are corrected after Holm ("A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6, 1979), whatever the slices share.
    """
    from scipy.stats import hypergeom

    large = list(slices)
    if not large:
        return []
    images = np.array([len(rows) for _, _, rows in large])
    wrong = np.array([np.count_nonzero(~correct[rows]) for _, _, rows in large])
    p = hypergeom.sf(wrong - 1, len(correct), np.count_nonzero(~correct), images)
    corrected = holm(p)
    accuracy = 1 - wrong / images
    low, high = wilson(accuracy, images)
    columns = (each.tolist() for each in (images, accuracy, low, high, p, corrected))
    names = ((attribute, value) for attribute, value, _ in large)
    found = [Slice(*name, *numbers) for name, numbers in zip(names, zip(*columns, strict=True), strict=True)]
    return sorted(found, key=lambda each: (each.accuracy, -each.images))


def holm(p: Floats) -> Floats:
    """The p [m] of m tests, corrected so that one of them is below alpha by chance at most at the rate alpha."""
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def as_json(found: Sequence[Slice], correct: NDArray[np.bool_], left_out: Mapping[str, int]) -> dict[str, Any]:
    """The slices as JSON values. ``left_out`` is how many values those attributes have that were not looked at."""
    right, images = int(correct.sum()), len(correct)
    low, high = accuracy_interval(right, images)
    return {
        "images": images,
        "accuracy": right / images,
        "accuracy_low": low,
        "accuracy_high": high,
        "alpha": ALPHA,
        "min_images": MIN_IMAGES,
        "left_out": dict(left_out),
        "slices": [asdict(each) | {"named": each.is_named} for each in found],
    }


def describe_named(found: Sequence[Slice]) -> str:
    """The named slices in a line, of each attribute the worst; empty if there are none."""
    named = [each for each in found if each.is_named]
    if not named:
        return ""
    # The first of an attribute is its worst. All of one attribute would hide the others.
    first: dict[str, Slice] = {}
    for each in named:
        first.setdefault(each.attribute, each)
    worst = list(first.values())[:MAX_NAMED]
    shown = ", ".join(
        f"{each} {each.accuracy:.1%} of {each.images:,} images ({each.accuracy_low:.1%} to {each.accuracy_high:.1%})"
        for each in worst
    )
    more = f" and {len(named) - len(worst):,} more" if len(named) > len(worst) else ""
    return f"the accuracy is lower on {len(named):,} of {counted(len(found), 'slice')} of the test split: {shown}{more}"
