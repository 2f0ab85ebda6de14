"""Measure the latency of models in turn, so that other load on the machine affects all of them equally."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from darkroom.evaluation.logits import LogitsFunction

# The first calls choose kernels and fill caches, also after another model had its turn.
WARM_UP_CALLS = 5
# The calls of each model in each round.
ROUNDS = 5
CALLS = 100
# A slow model has fewer calls: a turn may take this long, and no round begins after all turns have taken this long.
TURN_MS = 1000.0
ALL_MS = 20_000.0
LARGE_BATCH = 64


@dataclass(frozen=True)
class Latency:
    """Milliseconds that a model takes for one image, the median and the 95th percentile, with torch's ``threads``."""

    p50_ms: float
    p95_ms: float
    threads: int


def latencies(models: Sequence[LogitsFunction], *shapes: Sequence[int]) -> list[Latency]:
    """The latency of each model for one image, on the CPU.

    ``shapes`` (channels, height, width) are those that the models take, or one that all take.
    """
    threads = torch.get_num_threads()
    percentiles = [np.percentile(each, (50, 95)).tolist() for each in _in_turn(models, shapes, 1)]
    return [Latency(p50, p95, threads) for p50, p95 in percentiles]


def throughputs(models: Sequence[LogitsFunction], *shapes: Sequence[int]) -> list[float]:
    """The images per second of each model, in batches of ``LARGE_BATCH``, on the CPU; see ``latencies``."""
    return [LARGE_BATCH / float(np.median(each)) * 1000 for each in _in_turn(models, shapes, LARGE_BATCH)]


def _in_turn(models: Sequence[LogitsFunction], shapes: Sequence[Sequence[int]], count: int) -> list[list[float]]:
    """The milliseconds of every timed call of each model, with ``count`` images."""
    inputs = [torch.zeros(count, *shape, dtype=torch.uint8) for shape in shapes]
    inputs *= len(models) // len(inputs)
    found: list[list[float]] = [[] for _ in models]
    start = perf_counter()
    for _ in range(ROUNDS):
        for model, images, own in zip(models, inputs, found, strict=True):
            own += call_times(model, images, CALLS, TURN_MS)
        if 1000 * (perf_counter() - start) > ALL_MS:
            break
    return found


@torch.no_grad()
def call_times(model: LogitsFunction, images: Tensor, calls: int, at_most_ms: float = inf) -> list[float]:
    """The milliseconds of each of ``calls`` calls, after a warm-up that is not timed.

    If they would take longer than ``at_most_ms`` in total, there are fewer, but at least one; the same for the warm-up.
    """
    times: list[float] = []
    warm_up = WARM_UP_CALLS
    while len(times) < warm_up + calls and (len(times) <= warm_up or sum(times) < at_most_ms):
        start = perf_counter()
        model(images).cpu()  # waits for the device
        times.append(1000 * (perf_counter() - start))
        if len(times) < warm_up and sum(times) > at_most_ms:
            warm_up = len(times)
    return times[warm_up:]
