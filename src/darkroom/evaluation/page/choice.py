"""Which test images a report shows: it has room for some of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.evaluation.metrics import Evaluation, Floats, Ints
from darkroom.evaluation.reference import energies


@dataclass(frozen=True)
class Judged:
    """What a model thinks of each of N test images, float64 [N].

    ``doubt`` is the calibrated probability that its answer is wrong; ``loss``, in nats, is high where the true class
    has a low probability; ``energy`` is high for what is unlike the training images.
    """

    doubt: Floats
    loss: Floats
    energy: Floats


def judge(found: Evaluation, calibrated: Floats, logits: Floats) -> Judged:
    """Judge the images of ``found`` by its ``calibrated`` probabilities and ``logits``, both [N, classes]."""
    every = np.arange(len(found.labels))
    own = calibrated[every, found.labels]
    loss = -np.log(np.maximum(own, np.finfo(own.dtype).tiny))
    return Judged(1 - calibrated[every, found.predicted], loss, energies(logits))


def cells_of(found: Evaluation) -> Ints:
    """The cell of the confusion matrix that each image is in, int64 [N]: true class times classes, plus predicted."""
    cells: Ints = found.labels * len(found.confusion) + found.predicted
    return cells


def rank(found: Evaluation, judged: Judged) -> Ints:
    """All rows int64 [N], those to show first in front.

    From each cell of the confusion matrix in turn, the fullest first: the image with the highest loss, the most
    doubtful one, the one most unlike the training images, then the next of each.
    """
    cells = cells_of(found)
    orders = [judged.loss, judged.doubt, judged.energy]
    turns = np.min([len(orders) * _places(cells, each) + turn for turn, each in enumerate(orders)], axis=0)
    images = np.bincount(cells)[cells]
    ranked: Ints = np.lexsort((cells, -images, turns))
    return ranked


def _places(cells: Ints, values: NDArray[np.floating]) -> Ints:
    """The place of each image [N] in its cell, 0 for the one with the highest value."""
    order = np.lexsort((-values, cells))
    _, first, counts = np.unique(cells[order], return_index=True, return_counts=True)
    places = np.empty(len(cells), np.int64)
    places[order] = np.arange(len(cells)) - np.repeat(first, counts)
    return places
