"""Digests of the contents of images, independent of their names and datasets.

Of a file's bytes, or of the pixels if images are not files. 16 bytes each: a million digests take 16 MB.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
# uint8 [N, DIGEST_BYTES]
Digests = NDArray[np.uint8]
Ints = NDArray[np.int64]


def content_digest(content: bytes | memoryview) -> bytes:
    """The BLAKE2b-128 of a file's bytes, or of an image's pixels."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def stack(found: Iterable[bytes]) -> Digests:
    """Digests, one after another, as uint8 [N, 16]."""
    return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def as_hex(digests: Digests) -> Iterator[str]:
    """Each digest as 32 hexadecimal digits."""
    return (row.tobytes().hex() for row in digests)


def from_hex(texts: Sequence[str]) -> Digests | None:
    """Digests uint8 [N, 16] from their hexadecimal digits; None if none were recorded."""
    if not texts or any(len(text) != 2 * DIGEST_BYTES for text in texts):
        return None
    try:
        found = bytes.fromhex("".join(texts))
    except ValueError:
        return None
    return np.frombuffer(found, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def number(a: Digests, b: Digests) -> tuple[Ints, Ints]:
    """A number for each digest of both, int64 [N] and [M]: equal for equal digests."""
    together = np.concatenate([a, b])
    keys = np.ascontiguousarray(together).view(np.int64)
    order = np.lexsort(keys.T)
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(begins) - 1
    return numbers[: len(a)], numbers[len(a) :]


def match(a: Sequence[Ints], b: Sequence[Ints]) -> tuple[Ints, Ints]:
    """The positions in ``a`` and in ``b`` of the same images, one to one, in the order of ``b``.

    ``a`` and ``b`` are the columns of two tables of images, int64 [N] and [M] each: what an image has to share to be
    the same one (the number of its digest), and after it what distinguishes its copies, the most important first (its
    class). Of several copies those that share all columns go together first, then those that share all but the last,
    and so on, each in the order of its table. So no copy counts twice, and none is taken for a changed one while
    there is one that is not.
    """
    free_a, free_b = np.arange(len(a[0])), np.arange(len(b[0]))
    pairs_a, pairs_b = [], []
    for shared in range(len(a), 0, -1):
        keys_a, keys_b = _keys([each[free_a] for each in a[:shared]], [each[free_b] for each in b[:shared]])
        _, taken_a, taken_b = np.intersect1d(keys_a, keys_b, assume_unique=True, return_indices=True)
        pairs_a.append(free_a[taken_a])
        pairs_b.append(free_b[taken_b])
        free_a, free_b = np.delete(free_a, taken_a), np.delete(free_b, taken_b)
    rows_a, rows_b = np.concatenate(pairs_a), np.concatenate(pairs_b)
    order = np.argsort(rows_b)
    return rows_a[order], rows_b[order]


def _keys(a: Sequence[Ints], b: Sequence[Ints]) -> tuple[Ints, Ints]:
    """A number for each row of both tables that no other row of its own has: of its columns, and which copy it is."""
    columns = [np.concatenate(pair) for pair in zip(a, b, strict=True)]
    side = np.repeat([0, 1], [len(a[0]), len(b[0])])
    # lexsort is stable: the copies of a table come in its order.
    order = np.lexsort([side, *columns[::-1]])
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = np.any([column[order[1:]] != column[order[:-1]] for column in columns], axis=0)
    is_new_side = is_new.copy()
    is_new_side[1:] |= side[order[1:]] != side[order[:-1]]
    places = np.arange(len(order))
    copy = places - np.maximum.accumulate(np.where(is_new_side, places, 0))
    keys = np.empty(len(order), dtype=np.int64)
    # A group has fewer copies than there are rows.
    keys[order] = (np.cumsum(is_new) - 1) * len(order) + copy
    return keys[: len(a[0])], keys[len(a[0]) :]
