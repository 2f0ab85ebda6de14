"""Which pictures of the inbox show the same thing, and which show one that is in the dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.data.batches import Split
from darkroom.data.memmap import allocate, release
from darkroom.datasets.near_duplicates.audit import find_near_duplicates
from darkroom.datasets.scan import scan
from darkroom.datasets.source import ReportProgress

BLOCK = 1024

Ints = NDArray[np.int64]


def find_duplicates(
    pixels: NDArray[np.uint8], splits: Sequence[Split], scratch: Path, report: ReportProgress
) -> tuple[Ints, list[NDArray[np.bool_]]]:
    """Compare pictures uint8 [n, C, H, W] with each other and with the images of ``splits``, of the same shape.

    Returns a number for each picture, int64 [n], equal for copies and near-duplicates, and for each of the ``splits``
    which pictures show one of its images, bool [n]. Pictures smaller than 16 pixels are compared for copies only. The
    pixels of all are written to ``scratch``.
    """
    sizes = [len(pixels), *map(len, splits)]
    ends = np.cumsum(sizes)
    images = allocate(scratch / "compared", (int(ends[-1]), *pixels.shape[1:]))
    images[: len(pixels)] = pixels
    for split, end, size in zip(splits, ends[1:], sizes[1:], strict=True):
        for start in range(0, size, BLOCK):
            rows = np.arange(start, min(start + BLOCK, size))
            images[end - size + rows] = split.pixels[rows]
            release(images)
    parts = np.split(np.arange(len(images)), ends[:-1])
    seen = scan(images, {str(number): rows for number, rows in enumerate(parts)})
    # However many there are: a test image that is not recognized would be trained on.
    groups = find_near_duplicates(images, seen, "full", scratch, report).groups_with(None)
    own, *others = np.split(groups, ends[:-1])
    return own, [np.isin(own, each) for each in others]
