"""Images that lie in a file, read without ever holding many of them in memory."""

import mmap
from pathlib import Path

import torch

# Above this many bytes of images, pages that have been read are given back.
RESIDENT_BYTES = 256 << 20
# Reading one byte brings in the pages around it: where the page cache holds huge pages, one of those.
HUGE_PAGE_BYTES = 2 << 20


class MappedImages:
    """``tensor`` uint8 of ``shape`` [N, C, H, W], mapped from ``path`` from byte ``offset`` on.

    What is read stays in the system's page cache, but not for long in this process' resident set: a dataset
    larger than memory is trained on as one that fits, and pages come from the disk only if the cache has
    lost them.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], offset: int) -> None:
        with path.open("rb") as opened:
            # Copy on write, which torch asks for; nothing is ever written.
            self._mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        count = int(torch.Size(shape).numel())
        self.tensor = torch.frombuffer(self._mapping, dtype=torch.uint8, count=count, offset=offset).view(shape)
        image_bytes = count // shape[0]
        self._bytes_touched_by_an_image = image_bytes + HUGE_PAGE_BYTES
        self._is_large = count > RESIDENT_BYTES
        self._touched = 0

    def expect_any_order(self) -> None:
        """Tell the system not to read ahead: what follows an image in a large file is not asked for next."""
        if self._is_large:
            self._mapping.madvise(mmap.MADV_RANDOM)

    def touched(self, images: int) -> None:
        """Count ``images`` that have been read; gives pages back when that may be RESIDENT_BYTES."""
        self._touched += images * self._bytes_touched_by_an_image
        if self._is_large and self._touched >= RESIDENT_BYTES:
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
