"""Images that occur more than once, found by their pixels."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.mapped import gather

DIGEST_BYTES = 16


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
    splits = np.repeat(np.arange(len(rows)), [len(part) for part in rows.values()])
    keys = np.empty((len(members), DIGEST_BYTES // 8), dtype=np.int64)
    done = 0
    for pixels in gather(images, members):
        digests = [hashlib.blake2b(image.data, digest_size=DIGEST_BYTES).digest() for image in pixels]
        keys[done : done + len(pixels)] = np.frombuffer(b"".join(digests), dtype=np.int64).reshape(len(pixels), -1)
        done += len(pixels)
    # lexsort is stable: copies come side by side, in the order of their positions.
    order = np.lexsort(keys.T)
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    group = np.cumsum(begins) - 1
    copied = np.bincount(group)[group] > 1
    first = order[begins][group[copied]]
    positions = order[copied][np.argsort(first, kind="stable")]
    _, starts = np.unique(np.sort(first), return_index=True)
    return Duplicates(members[positions], splits[positions], starts)
