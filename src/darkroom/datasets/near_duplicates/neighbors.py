"""Find similar descriptors among many without comparing all of them.

Descriptors are divided into about sqrt(N) clusters, and each is compared with those of its nearest clusters only: the
work grows with N to the power of 1.5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.near_duplicates.windows import Descriptors, Floats

# Up to this many are all compared.
ALL_COMPARED = 4096
PROBES = 4
ITERATIONS = 6
SAMPLES_A_CLUSTER = 32
BLOCK = 4096
# Similarities that are computed at once: they stay in the processor's cache.
ENTRIES = 1 << 18
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """``items`` and to which cluster each belongs: those of cluster c are ``order[starts[c]:starts[c + 1]]``."""

    items: Descriptors
    centers: Descriptors
    order: Ints
    starts: Ints

    @classmethod
    def build(cls, items: Descriptors, seed: int = 0) -> "Index":
        count = 1 if len(items) <= ALL_COMPARED else isqrt(len(items))
        centers = _centers(items, count, np.random.default_rng(seed))
        own = _nearest(items, centers, 1)[:, 0]
        starts = np.searchsorted(np.sort(own), np.arange(count + 1))
        return cls(items, centers, np.argsort(own, kind="stable"), starts)

    def blocks(self, queries: Descriptors) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Rows of ``queries`` [Q], items [M] and the similarity of each with each, float32 [Q, M].

        Each row comes with the items of its nearest clusters, in several blocks.
        """
        probes = _nearest(queries, self.centers, min(PROBES, len(self.centers)))
        order = np.argsort(probes, axis=None, kind="stable")
        starts = np.searchsorted(probes.ravel()[order], np.arange(len(self.centers) + 1))
        rows = order // probes.shape[1]
        for cluster in range(len(self.centers)):
            members = self.order[self.starts[cluster] : self.starts[cluster + 1]]
            asking = rows[starts[cluster] : starts[cluster + 1]]
            if not len(members):
                continue
            there = self.items[members]
            step = max(1, ENTRIES // len(members))
            for begin in range(0, len(asking), step):
                some = asking[begin : begin + step]
                yield some, members, queries[some].similarity(there)


def _centers(items: Descriptors, count: int, generator: np.random.Generator) -> Descriptors:
    """The centers of ``count`` clusters, by k-means of a sample; an image and its mirror image count as one."""
    drawn = np.sort(generator.choice(len(items), min(len(items), count * SAMPLES_A_CLUSTER), replace=False))
    sample = items[drawn]
    centers = sample[np.sort(generator.choice(len(sample), count, replace=False))]
    for _ in range(ITERATIONS if count > 1 else 0):
        own = _nearest(sample, centers, 1)[:, 0]
        facing = np.sign(np.einsum("nd,nd->n", sample.odd, centers.odd[own]))[:, None]
        even, odd = _sums(sample.even, own, count), _sums(sample.odd * facing, own, count)
        length = np.sqrt((even**2).sum(axis=1) + (odd**2).sum(axis=1))[:, None]
        is_empty = length == 0
        length[is_empty] = 1
        centers = Descriptors(
            np.where(is_empty, centers.even, even / length), np.where(is_empty, centers.odd, odd / length)
        )
    return centers


def _sums(values: Floats, groups: Ints, count: int) -> Floats:
    """The sum of the ``values`` [N, D] of each group [count, D]."""
    order = np.argsort(groups, kind="stable")
    found = np.zeros((count, values.shape[1]), np.float32)
    present, starts = np.unique(groups[order], return_index=True)
    found[present] = np.add.reduceat(values[order], starts)
    return found


def _nearest(items: Descriptors, centers: Descriptors, count: int) -> Ints:
    """The ``count`` most similar centers of each item, int64 [N, count], in no order."""
    found = np.empty((len(items), count), np.int64)
    for start in range(0, len(items), BLOCK):
        close = items[start : start + BLOCK].similarity(centers)
        found[start : start + BLOCK] = (
            close.argmax(axis=1)[:, None] if count == 1 else np.argpartition(-close, count - 1, axis=1)[:, :count]
        )
    return found
