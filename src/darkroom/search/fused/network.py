"""One model that stands for K models of the same shape."""

import copy
from collections.abc import Sequence

import torch
from torch import Generator, nn

from darkroom.models.dropout import Dropout
from darkroom.models.resnet import ScaledLinear
from darkroom.search.fused.layers import (
    FusedLayer,
    SequentialFallback,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedDropout,
    StackedLinear,
)


def fuse(models: Sequence[nn.Module], generators: Sequence[Generator]) -> tuple[nn.Module, list[FusedLayer]]:
    """A model in training mode that maps the batches of ``models``, behind each other, to their outputs.

    ``generators``, one for each model and on its device, draw dropout. Also returns the layers that hold weights:
    these are the models' own, shared, so that what changes the models' parameters changes them.
    """
    device = next(models[0].parameters()).device
    layers: list[FusedLayer] = []

    def replaced(path: str, module: nn.Module) -> nn.Module:
        members = [model.get_submodule(path) for model in models]
        layer = _fused(members, generators, device)
        if layer is not None:
            layers.append(layer)
            return layer
        for name, child in list(module.named_children()):
            setattr(module, name, replaced(f"{path}.{name}" if path else name, child))
        return module

    with torch.no_grad():
        whole = replaced("", copy.deepcopy(models[0]))
    return whole.train(), layers


def _fused(members: list[nn.Module], generators: Sequence[Generator], device: torch.device) -> FusedLayer | None:
    """What stands for ``members``, one layer of each model; None if they are to be looked into."""
    first = members[0]
    match first:
        case Dropout():
            return StackedDropout([each for each in members if isinstance(each, Dropout)], generators)
        case ScaledLinear():
            return StackedLinear([each for each in members if isinstance(each, nn.Linear)], first.factor)
        case nn.Linear():
            return StackedLinear([each for each in members if isinstance(each, nn.Linear)])
        # On a CPU the K convolutions are faster than a grouped one, whose copies of the images cost more than
        # starting a kernel does.
        case nn.Conv2d() if device.type != "cpu":
            return StackedConv2d([each for each in members if isinstance(each, nn.Conv2d)])
        case nn.BatchNorm2d() if device.type != "cpu":
            return StackedBatchNorm2d([each for each in members if isinstance(each, nn.BatchNorm2d)])
    has_weights = any(True for _ in first.parameters(recurse=False))
    is_leaf = not any(True for _ in first.children())
    return SequentialFallback(members) if has_weights or (is_leaf and any(True for _ in first.buffers())) else None
