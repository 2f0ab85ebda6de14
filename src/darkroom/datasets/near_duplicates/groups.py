"""Images that show the same picture, copies included: their groups, and which of them leak between splits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkroom.datasets.near_duplicates.search import Pairs
from darkroom.datasets.scan import Scan

Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class SamePictures:
    """Which of the N images of a scan show the same picture, by their positions there.

    ``groups``: the images that pairs of near-duplicates join, with their copies. ``leaked`` bool [N]: the images of val
    and test whose picture an earlier split has too, as a copy or a near-duplicate; ``leaking`` bool [N]: the images of
    train whose picture val or test has too.
    """

    groups: tuple[Ints, ...]
    leaked: Marks
    leaking: Marks

    @classmethod
    def join(cls, seen: Scan, pairs: Pairs, kept: Marks | None = None) -> "SamePictures":
        """``pairs`` are of positions in ``seen``, of images that are not copies of an earlier one.

        Only images that are ``kept`` bool [N], else all, make others leaked.
        """
        present = np.arange(len(seen.rows)) if kept is None else np.flatnonzero(kept)
        # The splits in which each picture is, as bits; and those of the pictures that it resembles.
        splits = np.zeros(len(seen.rows), np.int64)
        np.bitwise_or.at(splits, seen.originals[present], 1 << seen.splits[present])
        near = splits.copy()
        np.bitwise_or.at(near, pairs.first, splits[pairs.second])
        np.bitwise_or.at(near, pairs.second, splits[pairs.first])
        own = 1 << seen.splits
        near = near[seen.originals]
        return cls(_groups(seen.originals, pairs), (near & (own - 1)) > 0, (seen.splits == 0) & ((near & ~own) > 0))


def twin_of(position: int, seen: Scan, pairs: Pairs) -> int:
    """An image of another split that shows the same picture as the one at ``position``, which must have one."""
    original = seen.originals[position]
    beside = np.concatenate([pairs.second[pairs.first == original], pairs.first[pairs.second == original]])
    same = np.flatnonzero(np.isin(seen.originals, [original, *beside.tolist()]))
    return int(same[seen.splits[same] != seen.splits[position]][0])


def _groups(originals: Ints, pairs: Pairs) -> tuple[Ints, ...]:
    """The images of each group, in their order; groups in the order of their first images."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(originals)
    graph = coo_array((np.ones(len(pairs.first), np.int8), (pairs.first, pairs.second)), shape=(count, count))
    _, group_of = connected_components(graph, directed=False)
    # A picture that resembles no other is in a group of its own, copies or not.
    is_joined = np.bincount(group_of, minlength=1)[group_of] > 1
    members = np.flatnonzero(is_joined[originals])
    groups = group_of[originals[members]]
    order = np.argsort(groups, kind="stable")
    parts = np.split(members[order], np.flatnonzero(np.diff(groups[order])) + 1)
    return tuple(sorted((part for part in parts if len(part)), key=lambda part: int(part[0])))
