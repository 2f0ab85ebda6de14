"""Images that occur more than once, found by their pixels."""

import hashlib
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray


def find_duplicates(images: NDArray[np.uint8], rows: dict[str, NDArray[np.int64]]) -> list[dict[str, list[int]]]:
    """Groups of pixel-identical images of ``images`` [N, C, H, W], each as {split: rows of the group}."""
    groups: defaultdict[bytes, dict[str, list[int]]] = defaultdict(dict)
    for split, members in rows.items():
        for row in members.tolist():
            key = hashlib.blake2b(images[row].tobytes(), digest_size=16).digest()
            groups[key].setdefault(split, []).append(row)
    return [group for group in groups.values() if sum(map(len, group.values())) > 1]
