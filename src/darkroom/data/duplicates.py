"""Images that occur more than once, found by their pixels."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.mapped import gather


@dataclass(frozen=True)
class Duplicates:
    """Groups of pixel-identical images, one group after another, in the order of their first images.

    For each image of a group: ``rows`` int64 [M], its row; ``splits`` int64 [M], the position of its split in the
    ``rows`` that were searched. ``starts`` int64 [G]: where each group begins.
    """

    rows: NDArray[np.int64]
    splits: NDArray[np.int64]
    starts: NDArray[np.int64]


def find_duplicates(images: NDArray[np.uint8], rows: dict[str, NDArray[np.int64]]) -> Duplicates:
    """The groups among the ``rows`` of each split of ``images`` [N, C, H, W]; a group's images in that order."""
    members = np.concatenate(list(rows.values()))
    keys = np.empty((len(members), 2), dtype=np.int64)
    done = 0
    for pixels in gather(images, members):
        digests = b"".join(hashlib.blake2b(image.data, digest_size=16).digest() for image in pixels)
        keys[done : done + len(pixels)] = np.frombuffer(digests, dtype=np.int64).reshape(-1, 2)
        done += len(pixels)
    # lexsort is stable: copies come side by side, in the order of their positions.
    order = np.lexsort(keys.T)
    keys = keys[order]
    begins = np.ones(len(order) + 1, dtype=bool)
    begins[1:-1] = (keys[1:] != keys[:-1]).any(axis=1)
    copied = ~(begins[:-1] & begins[1:])
    positions, begins = order[copied], begins[:-1][copied]
    # The groups, each found by its first image, in the order of these.
    first = positions[begins][np.cumsum(begins) - 1]
    positions = positions[np.argsort(first, kind="stable")]
    starts = np.flatnonzero(np.diff(np.sort(first), prepend=-1))
    ends_of_splits = np.cumsum([len(part) for part in rows.values()])
    return Duplicates(members[positions], np.searchsorted(ends_of_splits, positions, side="right"), starts)
