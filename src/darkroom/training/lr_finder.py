"""The learning-rate range test (Smith, "Cyclical learning rates for training neural networks", 2017)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from darkroom.data.batches import Split, TrainBatches
from darkroom.errors import TrainingError
from darkroom.models.network import networks
from darkroom.settings import Augment, Train
from darkroom.training.device import choose_device, choose_precision
from darkroom.training.optimisation import build_optimizer
from darkroom.training.step import TrainStep

LOWEST, HIGHEST = 1e-6, 10.0
# Share of the average that each step leaves as it was: the loss is averaged over about 20 of them.
MEMORY = 0.95
# The test ends when the loss has grown to this many times its lowest value.
DIVERGED = 4.0
# The average of this many steps, at rates too low to learn anything, is what a fall is measured from.
BEGINNING = 10
# By less than this share of the loss nothing has fallen: rounding alone moves it.
LEAST_FALL = 1e-3


@dataclass(frozen=True)
class LrCurve:
    """Smoothed training losses at rising learning rates, and the rate where the loss falls fastest."""

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_lr(
    model: nn.Module,
    train: Split,
    settings: Train,
    augment: Augment,
    *,
    steps: int = 200,
    on_step: Callable[[], None] = lambda: None,
) -> LrCurve:
    """Train ``model`` for up to ``steps`` steps while the learning rate rises from 1e-6 to 10.

    The suggestion is where the smoothed loss falls most steeply over the logarithm of the rate, before its
    lowest point. Raises TrainingError if the loss never falls by more than batches differ anyway. The model
    is spent afterwards.
    """
    device = choose_device(settings.device)
    model = model.to(device).train()
    train = train.to(device)
    # From the first epoch on as it will be in most of the training: nothing is frozen any more.
    for network in networks(model):
        network.begin_epoch(settings.epochs + 1)
    start = settings.model_copy(update={"lr": LOWEST})
    optimizer = build_optimizer(model, start)
    schedule = LambdaLR(optimizer, lambda step: (HIGHEST / LOWEST) ** (step / max(steps - 1, 1)))
    step = TrainStep(model, optimizer, train, settings, augment, device, choose_precision(settings, device))
    batches = TrainBatches(train, settings.batch_size, augment, settings.seed, settings.sampler, device)
    rates: list[float] = []
    measured: list[float] = []
    losses: list[float] = []
    average = 0.0
    while len(rates) < steps:
        for images, labels in batches:
            rate = float(optimizer.param_groups[-1]["lr"])
            loss = step(images, labels, batches.augment_generator)[0].item()
            schedule.step()
            average = MEMORY * average + (1 - MEMORY) * loss
            smoothed = average / (1 - MEMORY ** (len(rates) + 1))
            on_step()
            if not math.isfinite(smoothed) or (losses and smoothed > DIVERGED * min(losses)):
                return LrCurve(rates, losses, _steepest(rates, measured, losses))
            rates.append(rate)
            measured.append(loss)
            losses.append(smoothed)
            if len(rates) == steps:
                break
    return LrCurve(rates, losses, _steepest(rates, measured, losses))


def _steepest(rates: list[float], measured: list[float], losses: list[float]) -> float:
    lowest = int(np.argmin(losses)) if losses else 0
    if lowest < 2 or not _falls(measured[: lowest + 1], losses[: lowest + 1]):
        raise TrainingError(
            "the loss did not fall at any learning rate; look at the data and the settings, or take more steps"
        )
    slopes = np.gradient(np.array(losses[: lowest + 1]), np.log(rates[: lowest + 1]))
    return rates[int(slopes[:-1].argmin())]


def _falls(measured: list[float], losses: list[float]) -> bool:
    """Whether the smoothed loss falls by more than two batches in a row usually differ by."""
    # Not from the first loss on: that is of a single batch.
    start = losses[min(BEGINNING, len(losses) // 2)]
    usual = math.sqrt(np.square(np.diff(measured)).mean())
    return start - losses[-1] > max(usual, LEAST_FALL * start)
