"""One pass over the pixels of every image: which are copies, and what values they have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.data.digests import content_digest, stack
from darkroom.data.memmap import gather

# Above this many the values are not counted: only very few of them are of interest.
MAX_LEVELS = 2


@dataclass(frozen=True)
class Scan:
    """What was found in the pixels of the N images of all splits, one split after another.

    ``rows`` int64 [N], each image's row; ``splits`` int64 [N], the position of its split among those looked at;
    ``originals`` int64 [N], the position of the first image with the same pixels, which may be itself; ``lows`` and
    ``highs`` uint8 [N, C], the least and the greatest value of each channel; ``levels``, the values in the first
    split, or more than ``MAX_LEVELS`` of them.
    """

    rows: NDArray[np.int64]
    splits: NDArray[np.int64]
    originals: NDArray[np.int64]
    lows: NDArray[np.uint8]
    highs: NDArray[np.uint8]
    levels: tuple[int, ...]


def scan(images: NDArray[np.uint8], rows: dict[str, NDArray[np.int64]]) -> Scan:
    """Look at the ``rows`` of each split of ``images`` [N, C, H, W], which may be mapped from a file."""
    members = np.concatenate(list(rows.values()))
    keys = np.empty((len(members), 2), dtype=np.int64)
    lows, highs = np.empty((2, len(members), images.shape[1]), dtype=np.uint8)
    in_first = len(next(iter(rows.values())))
    levels: set[int] = set()
    done = 0
    for pixels in gather(images, members):
        here = slice(done, done + len(pixels))
        keys[here] = stack(content_digest(image.data) for image in pixels).view(np.int64)
        values = pixels.reshape(len(pixels), images.shape[1], -1)
        values.min(axis=2, out=lows[here])
        values.max(axis=2, out=highs[here])
        if done < in_first and len(levels) <= MAX_LEVELS:
            levels.update(np.flatnonzero(np.bincount(pixels[: in_first - done].ravel(), minlength=256)).tolist())
        done += len(pixels)
    ends = np.cumsum([len(part) for part in rows.values()])
    splits = np.searchsorted(ends, np.arange(len(members)), side="right")
    return Scan(members, splits, _originals(keys), lows, highs, tuple(sorted(levels)))


def _originals(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of ``keys`` [N, 2] the position of the first that equals it."""
    # lexsort is stable: equal keys come side by side, in the order of their positions.
    order = np.lexsort(keys.T)
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    originals = np.empty_like(order)
    originals[order] = order[begins][np.cumsum(begins) - 1]
    return originals
