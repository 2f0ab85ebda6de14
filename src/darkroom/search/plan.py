"""How many workers a search has, and how many trials each of them trains as one program."""

import os
from dataclasses import dataclass
from math import ceil

import torch

from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.features.task import trained_part
from darkroom.search.fused.loop import why_not
from darkroom.training.size import PASSES, measure

# Trials as one program. On a CPU small dense layers gain by it and convolutions do not (benchmarks/search measures
# both); on a GPU whatever is small waits for launches.
FUSED_ON_GPU = 16
FUSED_DENSE = 8
# The step of a head on features is smaller still: a search of 200 took 24 s eight at once, 21 s sixteen at once
# (n = 3).
FUSED_HEADS = 16
# Floating-point operations of a search that is worth several workers: about a minute of one core.
WORTH_IT = 3e12
# Trials that run at once know nothing of each other, so each place for one is to see so many of them. A short search
# gains less by it, but it gains: 200 heads of photographs took half the time, eight at once.
SEEN = 2
SEEN_WHERE_SHORT = 16
# The operations that take as long as the rest of a step, a millisecond of one core: of a small network nearly all.
PER_STEP = 5e7


@dataclass(frozen=True)
class Plan:
    """``workers`` processes train up to ``capacity`` trials at once; ``note`` says why not more, if more would be."""

    workers: int
    capacity: int
    note: str | None = None


def plan(config: Config, card: DatasetCard, device: torch.device) -> Plan:
    """What search.workers and search.fuse ask for; for "auto" what suits model, device and the number of trials.

    The same settings on the same machine give the same plan.
    """
    most_workers, most_fused = most_at_once(config, device)
    is_short = _work(config, card) < WORTH_IT
    workers, fuse = config.search.workers, config.search.fuse
    if not isinstance(workers, int):
        workers = 1 if is_short else max(1, min(most_workers, config.search.trials // SEEN))
    reason = why_not(config)
    if reason is not None or fuse == "off":
        would = isinstance(fuse, int) or (fuse == "auto" and most_fused > 1)
        return Plan(workers, 1, f"search.fuse: trials are trained one at a time; {reason}" if would else None)
    if not isinstance(fuse, int):
        fuse = max(1, min(most_fused, config.search.trials // ((SEEN_WHERE_SHORT if is_short else SEEN) * workers)))
    return Plan(workers, fuse)


def most_at_once(config: Config, device: torch.device) -> tuple[int, int]:
    """The most workers, and trainings in each, that make many trainings faster."""
    on_gpu = config.search.worker_gpus > 0 if config.search.executor == "ray" else device.type == "cuda"
    on_cpu = FUSED_HEADS if config.model.trains_head else FUSED_DENSE if config.model.name == "mlp" else 1
    fused = FUSED_ON_GPU if on_gpu else on_cpu
    if config.search.executor == "ray":
        return config.search.trials, fused  # as far as the cluster has room
    match device.type:
        case "cuda":
            return torch.cuda.device_count(), fused
        case "cpu":
            return _cores(), fused
        case _:
            return 1, 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(config: Config, card: DatasetCard) -> float:
    """How long all trials take, in operations; 0 if the model does not take the images."""
    epochs = config.search.trials * (config.search.epochs or config.train.epochs)
    steps = epochs * ceil(card.sizes["train"] / config.train.batch_size)
    arithmetic = operations(config, card)
    return arithmetic + PER_STEP * steps if arithmetic else 0


def operations(config: Config, card: DatasetCard) -> float:
    """Floating-point operations of all trials, were none pruned, with the model as written, or its head alone."""
    epochs = config.search.epochs or config.train.epochs
    images = config.search.trials * epochs * card.sizes["train"]
    try:
        config, card = trained_part(config, card)
        return images * PASSES * measure(config.model, card.shape, len(card.classes)).operations
    except ModelError:  # its trials will say so
        return 0
