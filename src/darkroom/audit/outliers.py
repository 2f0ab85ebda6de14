"""Find images that are unlike their class, or unlike all images, by their features.

The distance to the k-th nearest neighbor between features of length 1 tells pictures of another world from those of the
dataset (Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", 2022).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkroom.audit.findings import Finding, ImageRef

# The neighbor whose distance counts: a few copies of an outlier do not hide it.
NEIGHBOR = 10
SHOWN = 5
# With fewer images of a class in a fold, none can be said to be usual.
FEWEST = 20
# Robust standard deviations of the log odds of the distance. The usual 3.5 (Iglewicz and Hoaglin, 1993) names one
# image in sixty of MNIST: distances to neighbors have a longer tail than the normal distribution.
FAR = 5.0
# Similarities that are in memory at once.
BLOCK_BYTES = 32 << 20
LEAST_DISTANCE = 1e-6
MOST_DISTANCE = 0.999

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Distances:
    """How far each of N images is from others of its fold.

    ``from_class`` and ``from_all`` float32 [N] count robust standard deviations from the median image of its fold and
    class, by the distance to the 10th neighbor in its class and among all; -inf where there are too few images.
    ``nearest`` int64 [N, 5] are the nearest images of the class, -1 where there are none.
    """

    from_class: Floats
    from_all: Floats
    nearest: Ints

    @classmethod
    def between(cls, features: NDArray[np.floating[Any]], labels: Ints, folds: Ints) -> "Distances":
        """Compare ``features`` [N, D] within each of the ``folds`` int64 [N].

        Those of different folds come from different models, and are not comparable. The memory needed beside the
        features is a copy of those of one fold, and some blocks of 32 MB.
        """
        count = len(labels)
        found = cls(
            np.full(count, -np.inf, np.float32), np.full(count, -np.inf, np.float32), np.full((count, SHOWN), -1)
        )
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            rows = rows[np.argsort(labels[rows], kind="stable")]
            unit = features[rows].astype(np.float32)
            unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), LEAST_DISTANCE)
            for members in _runs(labels[rows]):
                if members.stop - members.start >= FEWEST:
                    found._add(unit, rows, members)
        return found

    def _add(self, unit: Floats, rows: Ints, members: slice) -> None:
        """Enter the images ``members`` of one class, among the ``unit`` features [M, D] of the images ``rows``."""
        own, everyone = (np.empty(members.stop - members.start, np.float32) for _ in range(2))
        step = max(1, BLOCK_BYTES // unit[:, 0].nbytes)
        for start in range(members.start, members.stop, step):
            block = slice(start, min(start + step, members.stop))
            similar = unit[block] @ unit.T
            here = np.arange(block.stop - block.start)
            similar[here, here + start] = -np.inf
            of_class = similar[:, members]
            nearest = np.argpartition(of_class, -SHOWN, axis=1)[:, -SHOWN:]
            order = np.argsort(-np.take_along_axis(of_class, nearest, axis=1), axis=1)
            self.nearest[rows[block]] = rows[members][np.take_along_axis(nearest, order, axis=1)]
            places = slice(start - members.start, block.stop - members.start)
            own[places] = np.partition(of_class, -NEIGHBOR, axis=1)[:, -NEIGHBOR]
            similar.partition(similar.shape[1] - NEIGHBOR, axis=1)
            everyone[places] = similar[:, -NEIGHBOR]
        self.from_class[rows[members]] = _deviations(own)
        self.from_all[rows[members]] = _deviations(everyone)


def unsearched(labels: Ints, folds: Ints) -> Ints:
    """The labels that have too few images in some fold to say what is usual; ``labels`` and ``folds`` are int64 [N]."""
    counts = np.zeros((labels.max() + 1, folds.max() + 1), np.int64)
    np.add.at(counts, (labels, folds), 1)
    found: Ints = np.flatnonzero(((counts > 0) & (counts < FEWEST)).any(axis=1))
    return found


def find_outliers(
    features: NDArray[np.floating[Any]],
    labels: Ints,
    folds: Ints,
    *,
    images: Sequence[ImageRef],
    files: Sequence[str],
    digests: Sequence[str],
    classes: Sequence[str],
) -> list[Finding]:
    """The images that are far from their class ("unlike its class") or from all images ("unlike all").

    Of N images: ``features`` float [N, D], computed by a model that was not trained on the image, one for each of the
    ``folds`` int64 [N]; ``labels`` int64 [N] index ``classes``; ``images``, ``files`` and ``digests`` [N] name them.
    Only the second is said of an image that is both. The most suspicious of each kind come first.
    """
    distances = Distances.between(features, labels, folds)
    found = []
    for kind, deviations, what in (
        ("unlike all", distances.from_all, "any"),
        ("unlike its class", np.where(distances.from_all < FAR, distances.from_class, -np.inf), "its class"),
    ):
        rows = np.flatnonzero(deviations >= FAR)
        for row in rows[np.argsort(-deviations[rows], kind="stable")].tolist():
            far = float(deviations[row])
            found.append(
                Finding(
                    kind, images[row], files[row], digests[row], classes[labels[row]],
                    f"its {NEIGHBOR}th neighbor in {what} is farther away than usual for "
                    f"{classes[labels[row]]!r} by {far:.1f} robust standard deviations",
                    1 - FAR / far / 2,
                    neighbors=tuple(images[near] for near in distances.nearest[row].tolist()),
                )
            )  # fmt: skip
    return found


def _runs(labels: Ints) -> Iterator[slice]:
    """Where each label begins and ends among sorted ``labels``."""
    _, starts = np.unique(labels, return_index=True)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(labels)], strict=True):
        yield slice(start, stop)


def _deviations(similarities: Floats) -> Floats:
    """Robust standard deviations of the log odds of the distance, from cosine similarities [M].

    Distances of a trained model are small, and their logarithms are spread evenly. Those of photographs by a frozen
    body are up to 1, the distance of what has nothing in common, where logarithms hardly differ any more.
    """
    distances = np.clip(1 - similarities, LEAST_DISTANCE, MOST_DISTANCE)
    odds = np.log(distances / (1 - distances))
    deviations = odds - np.median(odds)
    # A floor against dividing by nothing, where all are equally far away.
    scale = max(1.4826 * float(np.median(np.abs(deviations))), 1e-3)
    found: Floats = (deviations / scale).astype(np.float32)
    return found
