"""Arrays of images that lie in files, read without taking the memory for all of them."""

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 4 << 20


def reserve(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes. Its space is taken at once: a full disk raises OSError now, not hours later."""
    with path.open("wb") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        else:  # macOS
            opened.truncate(size)


def allocate(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A writable uint8 array mapped from a new file; see ``reserve``."""
    reserve(path, math.prod(shape))
    return np.memmap(path, dtype=np.uint8, mode="r+", shape=shape)


def gather(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """The ``rows`` of ``images`` [N, C, H, W], copied, contiguous, some megabytes at a time."""
    step = max(1, CHUNK_BYTES // math.prod(images.shape[1:]))
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(images[rows[start : start + step]])
        release(images)


def release(images: NDArray[np.uint8]) -> None:
    """Give back the memory that the pages of a mapped array take, written or not: its file keeps what they hold.

    The system would give them back only when it runs out of memory. Other arrays are left as they are.
    """
    mapping = getattr(images, "_mmap", None)  # numpy's own, which a view of a mapped array has too
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)
