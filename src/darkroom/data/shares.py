"""The share of each batch that one of several processes computes, which together train one model."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The images of a batch that a process computes: its own are at ``places`` int64 [n] of the batch.

    It takes those at ``taken`` int64 [m]: its own, then images of others that come before some of its own and are mixed
    with them. ``before`` int64 [n] says where among these the image before each of its own is. ``copies`` processes
    compute the same images.
    """

    places: Tensor
    taken: Tensor
    before: Tensor
    copies: int

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Share:
    """The share of process number ``rank`` of ``ranks``, where a batch goes through the model in ``parts``.

    Each part is divided evenly, so that the processes together do with it what one process does. A batch of which a
    part cannot be divided is computed as a whole by each process: the smaller last one of an epoch, say.
    """

    rank: int
    ranks: int
    parts: int = 1
    mixes: bool = False

    def rows(self, count: int, device: torch.device) -> Rows:
        """Those of a batch of ``count`` images, as tensors on ``device``."""
        key = (count, device)
        if key not in self._known:
            self._known[key] = self._find(count, device)
        return self._known[key]

    def divides(self, count: int) -> bool:
        """Whether the parts of a batch of ``count`` images can be divided."""
        return all(len(part) % self.ranks == 0 for part in torch.arange(count).chunk(self.parts))

    @cached_property
    def _known(self) -> dict[tuple[int, torch.device], Rows]:
        return {}

    def _find(self, count: int, device: torch.device) -> Rows:
        places, copies = torch.arange(count), self.ranks
        if self.divides(count):
            places = torch.cat([part.chunk(self.ranks)[self.rank] for part in places.chunk(self.parts)])
            copies = 1
        before = (places - 1) % count
        others = before[~torch.isin(before, places)] if self.mixes else before[:0]
        taken = torch.cat([places, others])
        number = torch.full((count,), -1)
        number[taken] = torch.arange(len(taken))
        return Rows(places.to(device), taken.to(device), number[before].to(device), copies)
