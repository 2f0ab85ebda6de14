"""What a trained model costs: the second objective of a search."""

import statistics
from time import perf_counter
from typing import Literal

import torch
from torch import nn

from darkroom.data.cache import DatasetCard

# The first calls choose kernels and fill caches.
WARM_UP_CALLS, CALLS = 5, 50


def cost(kind: Literal["latency", "parameters"], model: nn.Module, card: DatasetCard) -> float:
    """The number of ``model``'s parameters, or the median time of one image in evaluation mode, in milliseconds.

    A latency is that of the device the model lies on, beside whatever else this machine does meanwhile.
    """
    if kind == "parameters":
        return float(sum(parameter.numel() for parameter in model.parameters()))
    return statistics.median(_times(model, card)[WARM_UP_CALLS:])


@torch.no_grad()
def _times(model: nn.Module, card: DatasetCard) -> list[float]:
    """Milliseconds of each call."""
    model.eval()
    device = next(model.parameters()).device
    image = torch.zeros(1, *card.shape, dtype=torch.uint8, device=device)
    times = []
    for _ in range(WARM_UP_CALLS + CALLS):
        start = perf_counter()
        model(image).cpu()  # waits for the device
        times.append(1000 * (perf_counter() - start))
    return times
