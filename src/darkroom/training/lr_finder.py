"""The learning-rate range test (Smith, "Cyclical learning rates for training neural networks", 2017)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import Split, TrainBatches, place
from darkroom.errors import TrainingError
from darkroom.models.network import networks
from darkroom.training.device import choose_precision, prepare, set_tf32
from darkroom.training.optimizers import build_optimizer
from darkroom.training.step import TrainStep

LOWEST = 1e-6
HIGHEST = 10.0
# Share of the average that each step leaves as it was: the loss is averaged over about 20 of them.
MEMORY = 0.95
# The test ends when the loss has grown to this many times its lowest value.
DIVERGED = 4.0
# Of the beginning, at rates too low to learn anything, this share is no part of any fall: it is what one is measured
# from.
BEGINNING = 1 / 20
# The slope at a step is that of the losses up to so many steps to either side, of fewer where the test is short: half a
# decade of 200 steps.
REACH = 7
# By less than this share of the loss nothing has fallen: rounding alone moves it.
LEAST_FALL = 1e-3
# A slope counts if it is so many times what chance gives on average.
CERTAIN = 4.0


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
    device: torch.device,
    *,
    steps: int = 200,
    on_step: Callable[[], None] = lambda: None,
) -> LrCurve:
    """Train ``model`` on ``device`` for up to ``steps`` steps while the learning rate rises from 1e-6 to 10.

    The suggestion is where the loss falls most steeply over the logarithm of the rate, before its lowest point, by
    more than batches differ anyway. Raises TrainingError if it does so nowhere. The model is spent afterwards.
    """
    prepare(device, deterministic=settings.deterministic)
    model = model.to(device).train()
    (train,) = place(device, train)
    # From the first epoch on as it will be in most of the training: nothing is frozen any more.
    for network in networks(model):
        network.begin_epoch(settings.epochs + 1)
    optimizer = build_optimizer(model, _slowest(settings))

    def rise(step: int) -> float:
        return math.pow(HIGHEST / LOWEST, step / max(steps - 1, 1))

    schedule = LambdaLR(optimizer, rise)
    precision = choose_precision(settings, device)
    set_tf32(device, precision)
    step = TrainStep(model, optimizer, train, settings, augment, device, precision)
    batches = TrainBatches(train, settings.batch_size, augment, settings.seed, settings.sampler, device)
    rates: list[float] = []
    measured: list[float] = []
    losses: list[float] = []
    average = 0.0
    while len(rates) < steps:
        for images, labels in batches:
            rate = LOWEST * rise(len(rates))
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


def _slowest(settings: Train) -> Train:
    """The settings with the lowest rate. Rates beside it are the same share of it as before."""
    rates = {"lr": settings.lr, "bias_lr": settings.bias_lr, "head_lr": settings.head_lr}
    share = LOWEST / settings.lr
    return settings.model_copy(
        update={name: rate if rate is None else rate * share for name, rate in rates.items()} | {"lr": LOWEST}
    )


def _steepest(rates: list[float], measured: list[float], losses: list[float]) -> float:
    found = steepest_fall(measured, losses)
    if found is None:
        raise TrainingError(
            "the loss did not fall at any learning rate; look at the data and the settings, or take more steps"
        )
    return rates[found]


def steepest_fall(measured: list[float], losses: list[float]) -> int | None:
    """The step about which the losses ``measured`` fall fastest, before the lowest of their averages ``losses``.

    None if batches that differ may be all there is.
    """
    begin = math.ceil(BEGINNING * len(losses))
    if begin >= len(losses):
        return None
    # The first averages are of single batches.
    lowest = begin + int(np.argmin(losses[begin:]))
    reach = min(REACH, max(2, len(measured) // 12))
    first, last = begin + reach, min(lowest, len(measured) - reach)
    if first >= last or not _falls(measured[: lowest + 1], losses[: lowest + 1]):
        return None
    # The median of the slopes between all pairs (Theil and Sen): a single batch, be it the first or one that is hard,
    # moves it little. All are of as many losses, so that all are as sure.
    near = sliding_window_view(np.array(measured), 2 * reach + 1)[first - reach : last - reach]
    one, other = np.triu_indices(2 * reach + 1, 1)
    slopes = np.median((near[:, other] - near[:, one]) / (other - one), axis=1)
    place = int(slopes.argmin())
    # That of a normal distribution with this median of the differences between neighbors.
    deviation = np.median(np.abs(np.diff(measured[: lowest + 1]))) / (0.6745 * math.sqrt(2))
    error = deviation / math.sqrt(sum(step**2 for step in range(-reach, reach + 1)))
    return first + place if slopes[place] < -CERTAIN * error else None


def _falls(measured: list[float], losses: list[float]) -> bool:
    """Whether the smoothed loss falls by more than two batches in a row usually differ by."""
    # Not from the first loss on: that is of a single batch.
    start = losses[math.ceil(BEGINNING * len(losses))]
    usual = 1.4826 * np.median(np.abs(np.diff(measured)))
    return start - losses[-1] > max(float(usual), LEAST_FALL * start)
