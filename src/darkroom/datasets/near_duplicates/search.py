"""Find the pairs of images that show the same picture.

First each image is compared with its neighbors through a few windows, then with the most similar of them through many,
which finds the exact shift and scale. Two images show the same picture if they are far more similar than either is to
the other images around it: digits resemble each other, photographs do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkroom.data.memmap import release
from darkroom.datasets.near_duplicates.neighbors import Index, Ints
from darkroom.datasets.near_duplicates.thumbnails import thumbnails
from darkroom.datasets.near_duplicates.windows import CENTER, SIDE, Basis, Descriptors, Floats, Window, grid
from darkroom.datasets.source import ReportProgress

SAMPLE = 4096
CHUNK = 2048
# Images that are compared at once, through all coarse windows: 63 MB of descriptors.
BLOCK = 8192
# The neighbor that shows how similar different pictures of the dataset are, and the limits of that distance.
RANK = 20
CLOSEST, FARTHEST = 0.05, 0.5
# Of the shifts one of each two opposite ones: the other is found from the other image.
COARSE = (
    CENTER,
    *(Window(SIDE, 0.07 * down, 0.07 * right) for right, down in ((0, 1), (1, -1), (1, 0), (1, 1))),
    *grid(0.95, 0.025, 1),
    *grid(0.9, 0.025, 2),
)
FINE = (*grid(1.0, 0.036, 2), *grid(0.95, 0.0125, 3), *grid(0.9, 0.0125, 4))
# Fine windows are tried if they are beside the coarse one that has shown the similarity, bool [FINE, COARSE].
BESIDE = np.array([[fine.is_beside(coarse) for coarse in COARSE] for fine in FINE])
# Shares of the distance to the neighbor of that rank: of what is compared through all windows, and of what is found.
GATE = 0.9
SAME = 0.2
# No larger distance through the coarse windows is worth a closer look.
MAX_DISTANCE = 0.3
MAX_CANDIDATES = 24


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that show the same picture: ``first`` < ``second`` int64 [P], positions among those compared.

    ``scores`` float32 [P], below SAME: their distance as a share of that to other pictures, 0 for equal pictures.
    """

    first: Ints
    second: Ints
    scores: Floats


def find_pairs(images: NDArray[np.uint8], rows: Ints, scratch: Path, report: ReportProgress) -> Pairs:
    """The pairs among the ``rows`` of ``images`` uint8 [N, C, H, W], which must not be copies of each other.

    Small versions of large images are kept in ``scratch``.
    """
    from threadpoolctl import threadpool_limits

    # The products are small: more threads wait for each other longer than they compute.
    with threadpool_limits(1, user_api="blas"):
        small, rows = thumbnails(images, rows, scratch / "thumbnails")
        return _find_pairs(small, rows, report)


def _find_pairs(small: NDArray[np.uint8], rows: Ints, report: ReportProgress) -> Pairs:
    generator = np.random.default_rng(0)
    drawn = np.sort(generator.choice(rows, min(len(rows), SAMPLE), replace=False))
    basis = Basis.fit(small[drawn])
    (center,) = _describe(basis, small, rows, [CENTER])
    index = Index.build(center)
    usual = _distance_of_rank(index, center)
    limits = 1 - np.minimum(GATE * usual, MAX_DISTANCE)
    keys, scores = [], []
    for start in range(0, len(rows), BLOCK):
        report("near-duplicates", start, len(rows))
        block = rows[start : start + BLOCK]
        near = _look_around(_describe(basis, small, block, COARSE), index, limits, start)
        close = _align(basis, small, block, center, near, start)
        score = (1 - close) / np.sqrt(usual[near.images] * usual[near.others])
        same = score < SAME
        low, high = np.minimum(near.images, near.others)[same], np.maximum(near.images, near.others)[same]
        keys.append(low * len(rows) + high)
        scores.append(np.maximum(score[same], 0))
    pairs, places = np.unique(np.concatenate(keys), return_inverse=True)
    lowest = np.full(len(pairs), SAME, np.float32)
    np.minimum.at(lowest, places, np.concatenate(scores))
    first, second = np.divmod(pairs, len(rows))
    return Pairs(first, second, lowest)


def _describe(basis: Basis, images: NDArray[np.uint8], rows: Ints, windows: Sequence[Window]) -> list[Descriptors]:
    """The descriptors of all ``rows`` for each of the windows."""
    parts = []
    for start in range(0, len(rows), CHUNK):
        parts.append(list(basis.describe(images[rows[start : start + CHUNK]], windows)))
        release(images)
    return [Descriptors.join(part) for part in zip(*parts, strict=True)]


def _distance_of_rank(index: Index, items: Descriptors) -> Floats:
    """How far the neighbor of each item is that has the rank RANK, float32 [N], within the limits."""
    nearest = np.full((len(items), RANK + 1), 1 - FARTHEST, np.float32)  # with the item itself
    for rows, _, close in index.blocks(items):
        here = close if close.shape[1] <= RANK else np.partition(close, -RANK - 1, axis=1)[:, -RANK - 1 :]
        both = np.concatenate([nearest[rows], here], axis=1)
        nearest[rows] = np.partition(both, -RANK - 1, axis=1)[:, -RANK - 1 :]
    usual: Floats = np.clip(1 - nearest.min(axis=1), CLOSEST, FARTHEST)
    return usual


@dataclass(frozen=True)
class _Candidates:
    """Images and others that resemble them, int64 [M], sorted by image, and the coarse window that shows it best."""

    images: Ints
    others: Ints
    windows: Ints


def _look_around(views: Sequence[Descriptors], index: Index, limits: Floats, start: int) -> _Candidates:
    """The most similar images of those from ``start`` on; ``views`` are their descriptors for the coarse windows."""
    parts = []
    for window, queries in enumerate(views):
        for asking, members, close in index.blocks(queries):
            places = np.flatnonzero(close > limits[start + asking][:, None])
            a, b = np.divmod(places, len(members))
            images, others = start + asking[a], members[b]
            different = images != others
            shown = np.full(int(different.sum()), window)
            parts.append((images[different], others[different], shown, close.ravel()[places][different]))
    images, others, windows, close = (np.concatenate(column) for column in zip(*parts, strict=True))
    # The same pair through several windows and from several clusters counts once.
    order = np.lexsort((-close, others, images))
    images, others, windows, close = images[order], others[order], windows[order], close[order]
    is_first = (np.diff(images, prepend=-1) != 0) | (np.diff(others, prepend=-1) != 0)
    images, others, windows, close = images[is_first], others[is_first], windows[is_first], close[is_first]
    order = np.lexsort((-close, images))
    images, others, windows = images[order], others[order], windows[order]
    best = np.arange(len(images)) - np.searchsorted(images, images) < MAX_CANDIDATES
    return _Candidates(images[best], others[best], windows[best])


def _align(
    basis: Basis, images: NDArray[np.uint8], rows: Ints, center: Descriptors, near: _Candidates, start: int
) -> Floats:
    """The similarity of each candidate through the best fine window, float32 [M]; ``rows`` are those from ``start``."""
    close = np.full(len(near.images), -1, np.float32)
    for begin in range(0, len(rows), CHUNK):
        chunk = slice(*np.searchsorted(near.images, [start + begin, start + begin + CHUNK]))
        members, own = np.unique(near.images[chunk], return_inverse=True)
        if not len(members):
            continue
        there, windows, best = center[near.others[chunk]], near.windows[chunk], close[chunk]
        for beside, views in zip(BESIDE, basis.describe(images[rows[members - start]], FINE), strict=True):
            tried = np.flatnonzero(beside[windows])
            best[tried] = np.maximum(best[tried], views[own[tried]].pairwise(there[tried]))
        release(images)
    return close
