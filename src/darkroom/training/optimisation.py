"""The optimizer and the learning rate's schedule, from the settings."""

from typing import Any

from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from darkroom.models.network import networks
from darkroom.settings import Train
from darkroom.training.muon import MuonAdamW


def build_optimizer(model: nn.Module, settings: Train) -> optim.Optimizer:
    """The optimizer in its fused form: one kernel for all parameters, on the CPU as on a GPU.

    Parameters that learn at a share of the learning rate form groups of their own; the last group learns
    at the whole. "muon" is for matrices and filters, AdamW for the rest, see ``MuonAdamW``.
    """
    groups = _groups(model, settings.lr)
    match settings.optimizer:
        case "adam":
            return optim.Adam(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "adamw":
            return optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "muon":
            return MuonAdamW(groups, settings.lr, settings.momentum, settings.weight_decay)
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


def build_schedule(optimizer: optim.Optimizer, settings: Train, steps_per_epoch: int) -> LRScheduler:
    """The learning rate for each step of the whole training, in proportion for each group of parameters.

    "cosine" falls to zero (Loshchilov and Hutter, 2017), "one-cycle" rises for 30 % of the steps and
    falls below its start (Smith and Topin, 2018), both after torch's implementations.
    """
    total = settings.epochs * steps_per_epoch
    if settings.schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=total, cycle_momentum=False)
    warmup = settings.warmup_epochs * steps_per_epoch
    main: LRScheduler
    if settings.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=total - warmup)
    else:
        main = LambdaLR(optimizer, lambda step: 1.0)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])
