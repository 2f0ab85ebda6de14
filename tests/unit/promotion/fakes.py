"""Evidence of models that nobody trained: as much of it as the gate asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom.evaluation.predictions import SplitPredictions
from darkroom.promotion.evaluated_model import EvaluatedModel
from darkroom.promotion.registry import Contender

CLASSES = tuple(f"class {number}" for number in range(10))
FINGERPRINT = "f" * 64
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MadeUp(EvaluatedModel):
    """Evidence whose model is a function, and of any size."""

    network: Network = field(default=torch.Tensor.float)
    size: int = 1_000_000

    @property
    def size_bytes(self) -> int:
        return self.size

    def load(self) -> Network:
        return self.network


@cache
def names_of(images: int) -> tuple[str, ...]:
    return tuple(map(str, range(images)))


def labels_of(images: int, classes: int = len(CLASSES)) -> np.ndarray:
    """As many images of each class, in turn."""
    return np.arange(images) % classes


def answers(
    correct: Sequence[bool] | np.ndarray, *, confidence: float = 0.9, classes: Sequence[str] = CLASSES
) -> SplitPredictions:
    """Answers that are right where ``correct`` [N] says so, and else one class beside."""
    labels = labels_of(len(correct), len(classes))
    predicted = np.where(correct, labels, (labels + 1) % len(classes))
    return SplitPredictions(tuple(classes), names_of(len(labels)), labels, predicted, np.full(len(labels), confidence))


def evaluated(
    found: SplitPredictions,
    *,
    version: str = "2",
    fingerprint: str = FINGERPRINT,
    size: int = 1_000_000,
    network: Network = torch.Tensor.float,
) -> MadeUp:
    contender = Contender(
        run_id="r" * 32,
        uri=f"models:/a/{version}",
        model_id="m-0",
        tags={"darkroom.fingerprint": fingerprint},
        version=version,
    )
    return MadeUp(contender, found, fingerprint, (1, 2, 2), Path("nowhere"), Path("nowhere"), network, size)


def table(both: int, losses: int, gains: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images two models answer rightly, spread evenly over the classes."""
    kinds = np.repeat([0, 1, 2, 3], [both, losses, gains, neither])
    return kinds <= 1, (kinds == 0) | (kinds == 2)
