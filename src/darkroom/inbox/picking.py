"""Choose the pictures whose labels teach a model most: those it is least decided about, and no two of a kind."""

import numpy as np
from numpy.typing import NDArray

# Of the least decided ones so many times as many as are chosen are looked at.
CANDIDATES = 3
LEAST_LENGTH = 1e-6

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def margins(probabilities: NDArray[np.floating]) -> NDArray[np.floating]:
    """By how much the most probable class leads the next, of probabilities [N, classes]: [N], 0 for a draw."""
    highest = np.partition(probabilities, -2, axis=1)[:, -2:]
    lead: NDArray[np.floating] = highest[:, 1] - highest[:, 0]
    return lead


def pick(probabilities: NDArray[np.floating], features: NDArray[np.floating], count: int) -> Ints:
    """The rows of at most ``count`` of N pictures, the most instructive first.

    ``probabilities`` [N, classes] are the model's, ``features`` [N, D] what its last layer is given. The first is the
    one with the smallest margin (Scheffer et al., "Active Hidden Markov Models for Information Extraction", 2001). Each
    other one has the largest product of the distance of its features to those chosen (Sener and Savarese, "Active
    Learning for Convolutional Neural Networks: A Core-Set Approach", 2018) and what its margin lacks to 1.
    """
    lead = margins(probabilities)
    rows = np.argsort(lead, kind="stable")[: CANDIDATES * count]
    doubt = 1 - lead[rows]
    directions = features[rows].astype(np.float32)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), LEAST_LENGTH)
    far = np.full(len(rows), np.inf, np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        score = np.where(np.isfinite(far), far, 1) * doubt
        score[chosen] = -np.inf
        chosen.append(int(score.argmax()))
        far = np.minimum(far, np.maximum(2 - 2 * directions @ directions[chosen[-1]], 0))
    return rows[chosen]
