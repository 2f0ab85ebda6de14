"""Random numbers for each image of a batch, from a generator on the device."""

import torch
from torch import Generator, Tensor


def below(bounds: Tensor, generator: Generator) -> Tensor:
    """Whole numbers from 0 to below ``bounds`` int64 [N], drawn evenly: int64 [N]."""
    drawn = torch.rand(len(bounds), generator=generator, device=bounds.device)
    return torch.minimum((drawn * bounds).long(), bounds - 1)
