"""Divide all images of a dataset into folds: stratified by class, and no group in two folds."""

import warnings

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def assign_folds(labels: Ints, groups: Ints, count: int, seed: int) -> Ints:
    """The fold of each image, int64 [N], 0 to ``count`` - 1.

    ``labels`` and ``groups`` are int64 [N]; images of one group show the same picture or the same thing, and are in one
    fold: a model that has seen a copy of an image knows its label. Raises ValueError if there are fewer images or
    groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < count:
        raise ValueError(f"{count} folds of {len(sizes)} images that differ")
    folds = np.empty(len(labels), np.int64)
    # Images by themselves apart from the others: dividing groups takes as many passes as there are groups.
    is_alone = sizes[group_of] == 1
    for rows, divide in (
        (np.flatnonzero(is_alone), StratifiedKFold),
        (np.flatnonzero(~is_alone), StratifiedGroupKFold),
    ):
        names, order = np.unique(group_of[rows], return_inverse=True)
        if len(names) < count or np.bincount(labels[rows]).max() < count:
            # Too few for a share of each class: in turn, from the last fold on, which others leave the smallest.
            folds[rows] = count - 1 - order % count
            continue
        with warnings.catch_warnings():
            # A class of fewer images than folds is in some of them only.
            warnings.filterwarnings("ignore", message="The least populated class")
            divider = divide(count, shuffle=True, random_state=seed)
            of_groups = None if divide is StratifiedKFold else group_of[rows]
            for fold, (_, held_out) in enumerate(divider.split(rows, labels[rows], of_groups)):
                folds[rows[held_out]] = fold
    return folds
