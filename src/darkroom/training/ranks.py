"""The processes that train one model together, and what they exchange."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from darkroom.config.settings import Augment, Train
from darkroom.data.shares import Share

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Process number ``rank`` of ``count`` processes of torch's default process group; alone without a group."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes: checkpoints, the run, files."""
        return self.rank == 0

    def share(self, settings: Train, augment: Augment) -> Share | None:
        """The share of this process of each batch; None if it is alone."""
        if self.count == 1:
            return None
        return Share(self.rank, self.count, settings.accumulate, mixes=bool(augment.mixup or augment.cutmix))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of ``tensors``, which are of one dtype and device, by its sum over all processes.

        They are sent as one message. Every process ends with the same bits.
        """
        if self.count == 1 or not tensors:
            return
        sums = torch.cat([each.detach().flatten() for each in tensors])
        dist.all_reduce(sums)
        for each, total in zip(tensors, sums.split([each.numel() for each in tensors]), strict=True):
            each.detach().copy_(total.view(each.shape))

    def shared(self, model: nn.Module) -> DistributedDataParallel | None:
        """``model``, whose gradients become their means over all processes in the backward pass; None if alone.

        It has the weights of ``model`` themselves, as ``send_from_first`` gives them.
        """
        if self.count == 1:
            return None
        # Weights may be frozen meanwhile, and no image reaches some. Besides, torch would regroup the gradients after
        # the first step otherwise: a training that is resumed would end with other bits.
        return DistributedDataParallel(model, init_sync=False, find_unused_parameters=True)

    def send_from_first(self, model: nn.Module) -> None:
        """Give ``model`` the weights that it has in the first process."""
        if self.count > 1:
            for tensor in model.state_dict().values():
                sent = tensor.contiguous()
                dist.broadcast(sent, 0)
                tensor.copy_(sent)

    def from_first(self, value: T) -> T:
        """The ``value`` of the first process, in every process."""
        sent: list[Any] = [value]
        if self.count > 1:
            dist.broadcast_object_list(sent, 0)
        found: T = sent[0]
        return found

    def gather(self, value: T) -> list[T]:
        """The ``value`` of each process, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found


ALONE = Ranks()
