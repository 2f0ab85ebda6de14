"""The learning rate of each step of a training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, optim

from darkroom.config.settings import Train

# Of one-cycle, as in torch.optim.lr_scheduler.OneCycleLR: the share of the steps in which the rate rises, and how far
# below the peak it starts and ends.
RISING = 0.3
START = 1 / 25
END = 1 / 25 / 1e4


class Schedule:
    """Sets the rate of every group of parameters of ``optimizer``, in proportion to the rate that it has now.

    ``place`` is the number of steps that were taken.
    """

    def __init__(self, optimizer: optim.Optimizer, settings: Train, steps_per_epoch: int) -> None:
        self.factors = rate_factors(settings, steps_per_epoch)
        self._optimizer = optimizer
        self._peak = settings.lr
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._listed: list[float] = self.factors.tolist()
        self.move_to(0)

    @property
    def rates(self) -> Tensor:
        """Of each step and group: float64 [steps, groups]."""
        return torch.tensor(np.outer(self.factors, self._peaks))

    @property
    def last_rate(self) -> float:
        """That of the step before, of parameters that learn at the rate of the settings."""
        return self._peak * self._listed[max(self.place - 1, 0)]

    def step(self) -> None:
        """Follows each step of the optimizer."""
        self.move_to(self.place + 1)

    def move_to(self, place: int) -> None:
        """Set the rates that step number ``place``, counted from 0, is taken with."""
        self.place = place
        factor = self._listed[min(place, len(self._listed) - 1)]
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor


def rate_factors(settings: Train, steps_per_epoch: int) -> NDArray[np.float64]:
    """What the peak rate is multiplied by in each step: [steps].

    "cosine" falls to zero (Loshchilov and Hutter, 2017), "linear" does so in equal steps, "one-cycle" rises for 30 % of
    the steps and falls below its start (Smith and Topin, 2018). Warm-up rises in equal steps.
    """
    total = settings.epochs * steps_per_epoch
    step = np.arange(total, dtype=np.float64)
    if settings.schedule == "one-cycle":
        peak = RISING * total - 1
        rise, fall = step / peak, (step - peak) / (total - 1 - peak)
        return np.where(step <= peak, _between(START, 1, rise), _between(1, END, fall))
    warmup = settings.warmup_epochs * steps_per_epoch
    progress = (step - warmup) / (total - warmup)
    match settings.schedule:
        case "cosine":
            after = _between(1, 0, progress)
        case "linear":
            after = 1 - progress
        case "constant":
            after = np.ones(total)
    return np.where(step < warmup, (step + 1) / (warmup + 1), after)


def _between(start: float, end: float, progress: NDArray[np.float64]) -> NDArray[np.float64]:
    """From start to end along half a cosine."""
    return end + (start - end) / 2 * (1 + np.cos(np.pi * progress))
