"""How long models take for an answer, measured in turn: whatever else the machine does meanwhile meets them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
# The first calls choose kernels and fill caches, also after another model had its turn.
WARM_UP_CALLS = 5
ROUNDS, CALLS = 5, 40
LARGE_BATCH, LARGE_CALLS = 64, 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds that a model takes for one image, the median and the 95th percentile, with torch's ``threads``."""

    p50_ms: float
    p95_ms: float
    threads: int


def latencies(models: Sequence[Model], shape: Sequence[int]) -> list[Latency]:
    """The latency of each model for one image of ``shape`` (channels, height, width), on the CPU."""
    image = torch.zeros(1, *shape, dtype=torch.uint8)
    threads = torch.get_num_threads()
    percentiles = [np.percentile(each, (50, 95)).tolist() for each in _in_turn(models, image, CALLS)]
    return [Latency(p50, p95, threads) for p50, p95 in percentiles]


def throughputs(models: Sequence[Model], shape: Sequence[int]) -> list[float]:
    """The images a second that each model answers, in batches of ``LARGE_BATCH``, on the CPU."""
    images = torch.zeros(LARGE_BATCH, *shape, dtype=torch.uint8)
    return [LARGE_BATCH / float(np.median(each)) * 1000 for each in _in_turn(models, images, LARGE_CALLS)]


def _in_turn(models: Sequence[Model], images: Tensor, calls: int) -> list[list[float]]:
    """The milliseconds of ``ROUNDS`` times ``calls`` calls of each model."""
    found: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, own in zip(models, found, strict=True):
            own += call_times(model, images, calls)
    return found


@torch.no_grad()
def call_times(model: Model, images: Tensor, calls: int) -> list[float]:
    """The milliseconds of each of ``calls`` calls, after a warm-up that is not counted."""
    times = []
    for _ in range(WARM_UP_CALLS + calls):
        start = perf_counter()
        model(images).cpu()  # waits for the device
        times.append(1000 * (perf_counter() - start))
    return times[WARM_UP_CALLS:]
