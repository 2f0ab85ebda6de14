"""The images of a train split whose shards arrive while it is read, some at a time."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from darkroom.data.memmap import MappedImages
from darkroom.data.shard_store import ShardStore
from darkroom.data.sharded_images import ShardedImages
from darkroom.data.shards import MADE_BY, Shard, read_shard, shard_bytes
from darkroom.errors import CacheError


class StreamedImages(ShardedImages):
    """Images uint8 [N, C, H, W] of ``shards``, which come from ``store``; ``labels`` int64 [N] are those expected.

    An epoch reads them in the order that ``draw_order`` gives: ``group`` shards at a time, shuffled together, while the
    next ones arrive. Those that were read may leave.
    """

    def __init__(self, store: ShardStore, shards: Sequence[Shard], labels: Tensor) -> None:
        self._describe([shard.images for shard in shards], store.shape)
        self._store, self._shards, self._labels = store, shards, labels
        largest = max(shard_bytes(shard, store.shape) for shard in shards)
        fitting = min(store.room() // largest, len(shards))
        # Beside the shards that are read there is room for as many that arrive.
        self.group = max(1, fitting // 2)
        self._mappings: dict[int, MappedImages] = {}
        self._group_of = torch.zeros(len(shards), dtype=torch.int64)

    def draw_order(self, generator: Generator) -> Tensor:
        """The rows of an epoch, int64 [N], and the shards are expected in this order."""
        groups = torch.randperm(len(self._shards), generator=generator).split(self.group)
        places = torch.arange(len(self)).split(list(self._counts))
        order = []
        for number, group in enumerate(groups):
            self._group_of[group] = number
            rows = self._rows[torch.cat([places[shard] for shard in group.tolist()])]
            order.append(rows[torch.randperm(len(rows), generator=generator)])
        self._close(set(self._mappings))
        self._store.expect(self._shards[shard] for shard in torch.cat(groups).tolist())
        return torch.cat(order)

    def some_rows(self, count: int) -> Tensor:
        """``count`` images of all kinds, of as few shards as possible: int64 [count]."""
        return self._rows[:count]

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        found = super().index_select(dim, rows)
        current = int(self._group_of[self._shard_of(rows)].min())
        self._close({number for number in self._mappings if self._group_of[number] < current})
        return found

    def _shard(self, number: int) -> MappedImages:
        if number not in self._mappings:
            shard = self._shards[number]
            labels, mapping = read_shard(self._store.get(shard), shard, self._store.shape)
            own = self._rows.split(list(self._counts))[number]
            if not torch.equal(torch.from_numpy(labels), self._labels[own]):
                raise CacheError(f"{shard.file}: its labels are not those of files.csv; run `{MADE_BY}` again")
            mapping.expect_any_order()
            self._mappings[number] = mapping
        return self._mappings[number]

    def _close(self, numbers: set[int]) -> None:
        for number in numbers:
            del self._mappings[number]
        self._store.release(self._shards[number] for number in numbers)

    def _open(self) -> Sequence[MappedImages]:
        return list(self._mappings.values())
