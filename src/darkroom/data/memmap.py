"""Arrays of images in files, read without loading all of them into memory."""

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the stages that only write images do without it
    import torch

CHUNK_BYTES = 4 << 20
# Above this many bytes of images, pages that have been read are given back.
RESIDENT_BYTES = 256 << 20
# Reading one byte brings in the pages around it: where the page cache holds huge pages, one of those.
HUGE_PAGE_BYTES = 2 << 20


def reserve(path: Path, size: int) -> None:
    """Create a file of ``size`` bytes and reserve its space: a full disk raises OSError now, not hours later."""
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


def release(images: NDArray[Any]) -> None:
    """Release the memory of the pages of a mapped array, written or not: its file keeps their contents.

    The system would release them only when it runs out of memory. Other arrays are not changed.
    """
    mapping = getattr(images, "_mmap", None)  # numpy's own, which a view of a mapped array has too
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


class MappedImages:
    """``tensor`` of ``shape`` [N, C, H, W] and ``dtype``, else uint8, mapped from ``path`` from byte ``offset`` on.

    What is read stays in the system's page cache, but not for long in this process' resident set: a dataset
    larger than memory is trained on as one that fits, and pages come from the disk only if the cache has
    lost them.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int, dtype: "torch.dtype | None" = None) -> None:
        import torch

        dtype = dtype or torch.uint8
        with path.open("rb") as opened:
            # Copy on write, which torch asks for; nothing is ever written.
            self._mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        count = math.prod(shape)
        self.tensor = torch.frombuffer(self._mapping, dtype=dtype, count=count, offset=offset).view(shape)
        image_bytes = self.tensor.nbytes // shape[0]
        self._bytes_touched_by_an_image = image_bytes + HUGE_PAGE_BYTES
        self._is_large = self.tensor.nbytes > RESIDENT_BYTES
        self._touched = 0

    def expect_any_order(self) -> None:
        """Advise the system not to read ahead: the images of a large file are read in random order."""
        if self._is_large:
            self._mapping.madvise(mmap.MADV_RANDOM)

    def touched(self, images: int) -> None:
        """Count ``images`` that were read; release pages when they may have reached RESIDENT_BYTES."""
        self._touched += images * self._bytes_touched_by_an_image
        if self._is_large and self._touched >= RESIDENT_BYTES:
            self.release()
            self._touched = 0

    def release(self) -> None:
        """Release the memory of all pages that were read; their file keeps the contents."""
        self._mapping.madvise(mmap.MADV_DONTNEED)
