"""The second objective of a search: the latency or the parameters of a trained model."""

import statistics
from typing import Literal

import torch
from torch import nn

from darkroom.data.cache import DatasetCard
from darkroom.evaluation.latency import call_times

CALLS = 50


def cost(kind: Literal["latency", "parameters"], model: nn.Module, card: DatasetCard) -> float:
    """The number of ``model``'s parameters, or the median time of one image in evaluation mode, in milliseconds.

    A latency is that of the device the model lies on, beside whatever else this machine does meanwhile.
    """
    if kind == "parameters":
        return float(sum(parameter.numel() for parameter in model.parameters()))
    image = torch.zeros(1, *card.shape, dtype=torch.uint8, device=next(model.parameters()).device)
    return statistics.median(call_times(model.eval(), image, CALLS))
