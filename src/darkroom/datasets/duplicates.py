"""Find images that occur more than once, by their pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.scan import Scan


@dataclass(frozen=True)
class Duplicates:
    """Groups of pixel-identical images, one group after another, in the order of their first images.

    For each image of a group: ``rows`` int64 [M], its row; ``splits`` int64 [M], the position of its split among
    those that were looked at. ``starts`` int64 [G]: where each group begins.
    """

    rows: NDArray[np.int64]
    splits: NDArray[np.int64]
    starts: NDArray[np.int64]


def find_duplicates(seen: Scan) -> Duplicates:
    """The groups among the images that were looked at; a group's images in their order."""
    counts = np.bincount(seen.originals)
    positions = np.flatnonzero(counts[seen.originals] > 1)
    positions = positions[np.argsort(seen.originals[positions], kind="stable")]
    starts = np.flatnonzero(np.diff(seen.originals[positions], prepend=-1))
    return Duplicates(seen.rows[positions], seen.splits[positions], starts)
