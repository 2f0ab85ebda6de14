"""The images that a model takes for most alike, to look at beside a suspicious one."""

import numpy as np
from numpy.typing import NDArray

from darkroom.audit.out_of_fold import OutOfFold

Ints = NDArray[np.int64]


def nearest(found: OutOfFold, labels: Ints, images: Ints, classes: Ints, count: int) -> Ints:
    """Of each of ``images`` int64 [n] the most similar ones with the label in ``classes`` int64 [n]: int64 [n, count].

    By the cosine between what the last layer is given, among the images of the same fold, for only those are described
    by the same model. -1 where there are fewer.
    """
    result = np.full((len(images), count), -1)
    for fold in np.unique(found.folds[images]):
        members = np.flatnonzero(found.folds == fold)
        asked = np.flatnonzero(found.folds[images] == fold)
        described = _normalized(found.features[members])
        likeness = _normalized(found.features[images[asked]]) @ described.T
        allowed = (labels[members] == classes[asked, None]) & (members != images[asked, None])
        likeness[~allowed] = -np.inf
        best = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
        exists = np.take_along_axis(allowed, best, axis=1)
        result[asked, : best.shape[1]] = np.where(exists, members[best], -1)
    return result


def _normalized(features: NDArray[np.float16]) -> NDArray[np.float32]:
    numbers = features.astype(np.float32)
    numbers /= np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return numbers
