"""The optimizer, from the settings."""

from typing import Any

from torch import nn, optim

from darkroom.models.network import networks
from darkroom.settings import Train
from darkroom.training.muon import MuonAdamW


def build_optimizer(model: nn.Module, settings: Train) -> optim.Optimizer:
    """The optimizer in its fused form: one kernel for all parameters, on the CPU as on a GPU.

    Parameters that learn at a share of the learning rate form groups of their own; the last group learns
    at the whole. "muon" is for matrices and filters, AdamW for the rest, see ``MuonAdamW``.
    """
    groups = _groups(model, settings.lr)
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
            return optim.SGD(
                groups,
                settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                nesterov=settings.momentum > 0,
                fused=True,
            )


def _groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    factors = {parameter: factor for network in networks(model) for parameter, factor in network.lr_factors().items()}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    return [{"params": groups[factor], "lr": lr * factor} for factor in sorted(groups)]
