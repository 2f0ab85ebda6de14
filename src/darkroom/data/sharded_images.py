"""The images of a split that are in several files, used like one tensor."""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from darkroom.data import memmap
from darkroom.data.memmap import MappedImages
from darkroom.data.shards import Spread


class ShardedImages:
    """Images uint8 [N, C, H, W] of the ``shards`` of a split, in the order of the split.

    They are indexed as the tensor of all of them would be, and what is returned is a copy. As a mapping they keep as
    few pages in memory as one file does.
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(self, shards: Sequence[MappedImages]) -> None:
        self._mapped = shards
        self._describe([len(shard.tensor) for shard in shards], shards[0].tensor.shape[1:])

    def _describe(self, counts: Sequence[int], shape: Sequence[int]) -> None:
        self._counts = counts
        self._ends = torch.tensor(list(accumulate(counts)))
        spread = Spread(sum(counts), len(counts))
        # Which image is where, counted through all shards.
        self._rows, self._places = torch.from_numpy(spread.rows), torch.from_numpy(spread.places)
        self.shape = torch.Size((len(self._rows), *shape))
        self.nbytes = math.prod(self.shape)
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: int | slice) -> Tensor:
        if isinstance(wanted, int):
            return self.index_select(0, torch.tensor([wanted]))[0]
        return self.index_select(0, torch.from_numpy(np.arange(*wanted.indices(len(self)))))

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The images of ``rows`` int64 [n], in this order."""
        assert dim == 0, "images are chosen"
        found = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        places, of_shard = self._places[rows], self._shard_of(rows)
        order = of_shard.argsort(stable=True)
        numbers, counts = of_shard[order].unique_consecutive(return_counts=True)
        for number, own in zip(numbers.tolist(), order.split(counts.tolist()), strict=True):
            first = int(self._ends[number]) - self._counts[number]
            found[own] = self._shard(number).tensor.index_select(0, places[own] - first)
        return found

    def _shard(self, number: int) -> MappedImages:
        return self._mapped[number]

    def _shard_of(self, rows: Tensor) -> Tensor:
        """The number of the shard that each of ``rows`` is in."""
        return torch.bucketize(self._places[rows], self._ends, right=True)

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in their order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, device: torch.device) -> Tensor:
        """All images as one tensor on ``device``."""
        images = torch.empty(self.shape, dtype=self.dtype, device=device)
        for number, own in enumerate(self._rows.split(list(self._counts))):
            images[own.to(device)] = self._shard(number).tensor.to(device)
        return images

    def expect_any_order(self) -> None:
        for shard in self._open():
            shard.expect_any_order()

    def touched(self, images: int) -> None:
        """Count ``images`` that were read; release the pages of all files when they may have reached RESIDENT_BYTES."""
        self._touched += images * (self.nbytes // len(self) + memmap.HUGE_PAGE_BYTES)
        if self.nbytes > memmap.RESIDENT_BYTES and self._touched >= memmap.RESIDENT_BYTES:
            for shard in self._open():
                shard.release()
            self._touched = 0

    def _open(self) -> Sequence[MappedImages]:
        """The shards that are mapped."""
        return self._mapped
