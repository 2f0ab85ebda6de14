"""The optimizer and the learning rate's schedule, from the settings."""

from collections.abc import Iterable

from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from darkroom.settings import Train


def build_optimizer(parameters: Iterable[nn.Parameter], settings: Train) -> optim.Optimizer:
    """The optimizer in its fused form: one kernel for all parameters, on the CPU as on a GPU."""
    match settings.optimizer:
        case "adam":
            return optim.Adam(parameters, settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "adamw":
            return optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay, fused=True)
        case "sgd":
            return optim.SGD(
                parameters,
                settings.lr,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                nesterov=settings.momentum > 0,
                fused=True,
            )


def build_schedule(optimizer: optim.Optimizer, settings: Train, steps_per_epoch: int) -> LRScheduler:
    """The learning rate for each step of the whole training.

    "cosine" falls to zero (Loshchilov and Hutter, 2017), "one-cycle" rises for 30 % of the steps and
    falls below its start (Smith and Topin, 2018), both after torch's implementations.
    """
    total = settings.epochs * steps_per_epoch
    if settings.schedule == "one-cycle":
        return OneCycleLR(optimizer, settings.lr, total_steps=total, cycle_momentum=False)
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
