"""Test whether the class of an image can be told from something else than what it shows.

A model that learns the camera of each class has a high accuracy until the camera changes. With many images every
difference is significant, so what counts is how well a class is told from the attribute alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.quality.attributes import Attribute

Ints = NDArray[np.int64]
# Of fewer images, or images of a class, nothing is said.
FEWEST_IMAGES = 20
FEWEST_OF_A_CLASS = 10
SIGNIFICANT = 0.01
# How often a class must be told from all others by the attribute, where half is chance.
STRONG = 0.75
# A share is estimated from so many as well as from more.
MOST_PREDICTED = 10_000
FOLDS = 5
LEAVES = 16


@dataclass(frozen=True)
class Association:
    """How an attribute hangs together with the classes.

    ``p_value`` is that of the Kruskal-Wallis test for numbers and of the chi-square test for categories, multiplied by
    the number of attributes that were looked at (Bonferroni). ``effect``, epsilon squared or Cramer's V, is 0 to 1.

    ``balanced_accuracy`` is that of a small decision tree on the attribute alone, by cross-validation, and ``chance``
    that of the most frequent class. ``label`` is the class that the tree tells best from all others, and ``told`` the
    mean of its recall and of the share of others not taken for it: 0.5 by chance. It is ``strong`` from 0.75 on.
    """

    attribute: str
    of: Literal["file", "picture", "table"]
    test: Literal["Kruskal-Wallis", "chi-square"]
    p_value: float
    effect_size: Literal["epsilon squared", "Cramer's V"]
    effect: float
    balanced_accuracy: float
    chance: float
    label: str
    told: float
    strong: bool


def find_associations(
    attributes: Sequence[Attribute], labels: Ints, classes: Sequence[str], groups: Ints | None = None
) -> list[Association]:
    """Test each attribute of N images against their ``labels`` int64 [N].

    Returns the significant associations, those that tell a class best first.
    Images of one of the ``groups`` int64 [N] are in one fold of the cross-validation. Nothing is found in fewer than
    20 images, or if fewer than two classes have 10.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if len(labels) < FEWEST_IMAGES or (counts >= FEWEST_OF_A_CLASS).sum() < 2:
        return []
    folds = _folds(labels, groups)
    chosen = np.random.default_rng(0).permutation(len(labels))[:MOST_PREDICTED]
    found = []
    for attribute in attributes:
        p_value, effect = (_chi_square if attribute.is_category else _kruskal_wallis)(attribute.values, labels)
        p_value = min(1.0, p_value * len(attributes))
        if p_value >= SIGNIFICANT:
            continue
        predicted = _predict(attribute.values[chosen], labels[chosen], folds[chosen])
        told = _told(labels[chosen], predicted, len(classes))
        best = int(told.argmax())
        found.append(
            Association(
                attribute.name,
                attribute.of,
                "chi-square" if attribute.is_category else "Kruskal-Wallis",
                p_value,
                "Cramer's V" if attribute.is_category else "epsilon squared",
                effect,
                _balanced_accuracy(labels[chosen], predicted),
                1 / int((counts > 0).sum()),
                classes[best],
                float(told[best]),
                bool(told[best] >= STRONG),
            )
        )
    return sorted(found, key=lambda association: -association.told)


def _kruskal_wallis(values: NDArray[np.float64], labels: Ints) -> tuple[float, float]:
    """The p-value and epsilon squared (Tomczak and Tomczak, 2014)."""
    from scipy.stats import kruskal

    found = kruskal(*(values[labels == label] for label in np.unique(labels)))
    return float(found.pvalue), float(found.statistic) / (len(values) - 1)


def _chi_square(values: NDArray[np.float64], labels: Ints) -> tuple[float, float]:
    """The p-value and Cramer's V without its bias (Bergsma, 2013)."""
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import crosstab

    table = crosstab(values, labels).count
    found = chi2_contingency(table, correction=False)
    total = len(values)
    surplus = max(0.0, found.statistic / total - found.dof / (total - 1))
    least = min(side - (side - 1) ** 2 / (total - 1) for side in table.shape)
    # Where each image has a value of its own, nothing is left of it without the bias.
    strength = np.sqrt(surplus / (least - 1)) if least > 1 else 0.0
    return float(found.pvalue), float(min(1.0, strength))


def _folds(labels: Ints, groups: Ints | None) -> Ints:
    """A fold for each image, int64 [N]: those of a class evenly, those of a group in one."""
    _, first, unit = np.unique(np.arange(len(labels)) if groups is None else groups, True, True)
    order = np.random.default_rng(0).permutation(len(first))
    order = order[np.argsort(labels[first][order], kind="stable")]
    folds = np.empty(len(first), dtype=np.int64)
    folds[order] = np.arange(len(first)) % FOLDS
    return folds[unit]


def _predict(values: NDArray[np.float64], labels: Ints, folds: Ints) -> Ints:
    """The class of each image by a small tree that saw the other folds."""
    from sklearn.tree import DecisionTreeClassifier

    leaves = max(LEAVES, 2 * len(np.unique(labels)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=leaves, min_samples_leaf=FOLDS, class_weight="balanced", random_state=0
    )
    column, predicted = values[:, None], np.empty_like(labels)
    for fold in np.unique(folds):
        held_out = folds == fold
        predicted[held_out] = tree.fit(column[~held_out], labels[~held_out]).predict(column[held_out])
    return predicted


def _told(labels: Ints, predicted: Ints, classes: int) -> NDArray[np.float64]:
    """For each class the mean of its recall and the share of other images not taken for it; 0 if it has too few."""
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    false_alarms = np.bincount(predicted, minlength=classes) - hits
    told = (hits / np.maximum(counts, 1) + 1 - false_alarms / np.maximum(len(labels) - counts, 1)) / 2
    return np.where(counts >= FEWEST_OF_A_CLASS, told, 0)


def _balanced_accuracy(labels: Ints, predicted: Ints) -> float:
    counts = np.bincount(labels)
    hits = np.bincount(labels[labels == predicted], minlength=len(counts))
    return float((hits[counts > 0] / counts[counts > 0]).mean())
