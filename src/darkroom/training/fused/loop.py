"""Several trainings side by side, which come and go between epochs."""

import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Generator

from darkroom.config import Config
from darkroom.errors import TrainingError
from darkroom.training.fused.step import FusedStep
from darkroom.training.loop import EpochMetrics, TrainingLoop

Name = TypeVar("Name", bound=Hashable)


def why_not(config: Config) -> str | None:
    """Why trainings cannot be made one program with others of their kind; None if they can."""
    if config.train.compile != "none":
        return "train.compile is for a single model"
    if config.model.name == "pretrained":
        return "the layers of a pretrained model learn from epochs of their own"
    return None


def group(config: Config) -> str:
    """Trainings of one dataset whose configurations have the same group can be made one program.

    They may differ in whatever does not change the shape of a tensor or of a batch.
    """
    shape = config.model.model_dump(mode="json", exclude={"dropout"})
    train = config.train.model_dump(mode="json", include={"batch_size", "accumulate"})
    return repr((shape, train))


class SingleLoop(Generic[Name]):
    """What ``FusedLoop`` does, for one training at a time: without a program that is made for several."""

    def __init__(self) -> None:
        self.loops: dict[Name, TrainingLoop] = {}

    def add(self, name: Name, loop: TrainingLoop) -> None:
        """Take in the training whose model was the last for which torch's global generator was seeded."""
        assert not self.loops, "one at a time: they would draw from the same random numbers"
        self.loops[name] = loop

    def remove(self, name: Name) -> None:
        del self.loops[name]

    def run_epoch(self) -> dict[Name, EpochMetrics | Exception]:
        """Train an epoch; the error if it has diverged."""
        return {name: _attempted(loop.run_epoch) for name, loop in self.loops.items()}


class FusedLoop(Generic[Name]):
    """Trains the epochs of several ``TrainingLoop``s of one group as one program.

    Each comes to what it would come to alone, up to the rounding of another order of summation: it has its own
    order of the images, its own random numbers, its own optimizer, schedule and history, and may begin when others
    are half way. (On a GPU dropout alone differs: drawn from the same distribution, but from other numbers than
    torch draws for a single model.)
    """

    def __init__(self) -> None:
        self.loops: dict[Name, TrainingLoop] = {}
        self._generators: dict[Name, Generator] = {}
        self._step: FusedStep | None = None

    def add(self, name: Name, loop: TrainingLoop) -> None:
        """Take in a training whose model was the last for which torch's global generator was seeded."""
        self.loops[name] = loop
        generator = self._generators[name] = Generator(loop.device)
        if loop.device.type == "cpu":
            generator.set_state(torch.get_rng_state())
        else:
            generator.manual_seed(loop.settings.seed)
        self._step = None

    def remove(self, name: Name) -> None:
        del self.loops[name], self._generators[name]
        self._step = None

    def run_epoch(self) -> dict[Name, EpochMetrics | Exception]:
        """Train an epoch of each; for one that has diverged its error."""
        if self._step is None:
            # What came and went has changed who lies in memory behind whom.
            self._step = FusedStep(list(self.loops.values()), list(self._generators.values()))
        start = time.perf_counter()
        loops = self._step.loops
        for loop in loops:
            loop.begin_epoch()
        losses = torch.zeros(len(loops), device=self._step.device)
        correct = torch.zeros(len(loops), dtype=torch.int64, device=self._step.device)
        rates: list[float] = []
        for batches in zip(*(loop.batches for loop in loops), strict=True):
            rates = [loop.lr for loop in loops]
            batch_losses, right = self._step(batches)
            losses += batch_losses * len(batches[0][1])
            correct += right
        count = len(loops[0].batches.split)
        figures = zip(self.loops, loops, losses.tolist(), correct.tolist(), rates, strict=True)
        return {
            name: _attempted(partial(loop.end_epoch, loss / count, hits / count, lr, start))
            for name, loop, loss, hits, lr in figures
        }


def _attempted(epoch: Callable[[], EpochMetrics]) -> EpochMetrics | Exception:
    try:
        return epoch()
    except TrainingError as problem:
        return problem
