"""How good a classifier is on the test images that it cannot know from training.

Pixels say which test images may show the picture of a train or val image. The classifier's own features say which of
these it too takes for the same picture: clothes of one cut resemble each other, and are no copies.
"""

from collections.abc import Iterable
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from darkroom.data.batches import Split
from darkroom.evaluation.directions import directions
from darkroom.evaluation.metrics import Evaluation, accuracy_interval
from darkroom.models.classifier import Classifier

# Copies are among the nearest images, however good the model is.
NEAREST = 20
# Train images by which the distance of the last of these is estimated.
SAMPLE = 5000

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]


def confirm_leaked(
    classifier: Classifier, train: Split, val: Split, test: Split, leaked: Marks, groups: Ints, batch_size: int
) -> Marks:
    """Which of the ``leaked`` bool [N] test images the classifier too takes for the picture of a train or val image.

    ``groups`` int64 [all images] says which images of train, val and test, in this order, may show the same picture. A
    test image is confirmed if an image of its group is among the nearest 20 of its train images, by the directions of
    what the last layer is given. How near that is, 5,000 train images of other groups say. Where there is nothing to
    compare with, the image stays leaked.
    """
    known, suspicious = groups[: len(train) + len(val)], groups[len(train) + len(val) :][leaked]
    partners = np.flatnonzero(np.isin(known, suspicious))
    others = np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(np.int64)
    others = others[~np.isin(known[others], suspicious)]
    if not len(partners) or not len(others):
        return leaked
    is_train = partners < len(train)
    rows = (train, partners[is_train]), (val, partners[~is_train] - len(train))
    described = _directions(classifier, rows, batch_size)
    asked = _directions(classifier, [(test, np.flatnonzero(leaked))], batch_size)
    sample = _directions(classifier, [(train, others)], batch_size)
    rank = max(1, round(NEAREST * len(others) / len(train))) - 1
    far = np.partition(_distances(asked, sample), rank, axis=1)[:, rank]
    confirmed = leaked.copy()
    for row, features, group, limit in zip(np.flatnonzero(leaked), asked, suspicious, far, strict=True):
        same = described[known[partners] == group]
        # Differences, not products: those of equal features are zero to the bit.
        confirmed[row] = not len(same) or np.linalg.norm(same - features, axis=1).min() <= limit
    return confirmed


def _directions(classifier: Classifier, rows: Iterable[tuple[Split, Ints]], batch_size: int) -> Floats:
    """Those of the ``rows`` int64 [n] of each split: [sum of n, D]."""
    batches = (directions(classifier, split, torch.from_numpy(wanted), batch_size) for split, wanted in rows)
    found: Floats = torch.cat(list(chain.from_iterable(batches))).numpy()
    return found


def _distances(first: Floats, second: Floats) -> Floats:
    """Between vectors of length 1, [n, D] and [m, D]: [n, m]."""
    found: Floats = np.sqrt(np.maximum(2 - 2 * first @ second.T, 0))
    return found


def without_leaked(found: Evaluation, leaked: Marks) -> dict[str, float]:
    """The accuracy with its 95 % Wilson interval without the images that are ``leaked`` bool [N], and their number.

    Empty if none is leaked; only their number if all are.
    """
    count: dict[str, float] = {"leaked_images": int(leaked.sum())}
    if leaked.all() or not leaked.any():
        return count if leaked.any() else {}
    right = (found.predicted == found.labels)[~leaked]
    low, high = accuracy_interval(int(right.sum()), len(right))
    return {
        "accuracy_without_leaked": float(right.mean()),
        "accuracy_without_leaked_low": low,
        "accuracy_without_leaked_high": high,
        **count,
    }
