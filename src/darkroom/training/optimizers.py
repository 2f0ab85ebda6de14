"""The optimizer, from the settings."""

from typing import Any

import torch
from torch import nn, optim

from darkroom.config.settings import Train
from darkroom.models.network import heads_of, networks
from darkroom.training.muon import MuonAdamW


def build_optimizer(model: nn.Module, settings: Train) -> optim.Optimizer:
    """The optimizer in its fused form: one kernel for all parameters, on the CPU as on a GPU.

    Parameters that learn at rates of their own form groups of their own. "muon" is for matrices and filters, AdamW
    for the rest, see ``MuonAdamW``.
    """
    groups = _groups(model, settings)
    # What a CUDA graph holds must not depend on the host.
    capturable = groups[0]["params"][0].device.type == "cuda"
    match settings.optimizer:
        case "adam":
            return optim.Adam(
                groups, settings.lr, weight_decay=settings.weight_decay, fused=True, capturable=capturable
            )
        case "adamw":
            return optim.AdamW(
                groups, settings.lr, weight_decay=settings.weight_decay, fused=True, capturable=capturable
            )
        case "muon":
            return MuonAdamW(
                groups,
                settings.lr,
                settings.momentum,
                settings.weight_decay,
                settings.muon_iterations,
                capturable=capturable,
            )
        case "sgd":
            sgd = optim.SGD(
                groups,
                settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                nesterov=settings.momentum > 0,
                fused=True,
            )
            if settings.momentum:
                # torch's kernel takes none or all: a layer that begins to learn later would have none.
                for group in sgd.param_groups:
                    for parameter in group["params"]:
                        sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return sgd


def _groups(model: nn.Module, settings: Train) -> list[dict[str, Any]]:
    """The parameters by their rates, so that the last matrix of the model is the last of the groups."""
    factors = {parameter: factor for network in networks(model) for parameter, factor in network.lr_factors().items()}
    heads = heads_of(model)
    places: dict[nn.Parameter, int] = {}
    groups: dict[float, list[nn.Parameter]] = {}
    for place, (name, parameter) in enumerate(model.named_parameters()):
        rate = settings.lr
        if settings.head_lr is not None and name.startswith(heads):
            rate = settings.head_lr
        elif settings.bias_lr is not None and name.endswith("bias"):
            rate = settings.bias_lr
        groups.setdefault(rate * factors.get(parameter, 1.0), []).append(parameter)
        places[parameter] = place
    by_matrix = sorted(
        groups.items(), key=lambda group: max((places[each] for each in group[1] if each.ndim in (2, 4)), default=-1)
    )
    return [{"params": parameters, "lr": rate} for rate, parameters in by_matrix]
