"""Several trainings side by side, which come and go between epochs."""

import copy
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Generator, Tensor

from darkroom.config import Config
from darkroom.data.batches import side_by_side
from darkroom.errors import TrainingError
from darkroom.search.fused.step import FusedStep
from darkroom.training.loop import EpochMetrics, TrainingLoop

Name = TypeVar("Name", bound=Hashable)


def why_not(config: Config) -> str | None:
    """Why trainings cannot be made one program with others of their kind; None if they can."""
    if config.train.compile != "none":
        return "train.compile is for a single model"
    if config.train.precision == "fp16":
        return "train.precision fp16 scales the gradients of a single model"
    if config.model.name == "pretrained":
        return "the layers of a pretrained model learn from epochs of their own"
    return None


def group(config: Config) -> str:
    """Trainings of one dataset whose configurations have the same group can be made one program.

    They may differ in whatever does not change the shape of a tensor or of a batch.
    """
    shape = config.model.model_dump(mode="json", exclude={"dropout"})
    train = config.train.model_dump(mode="json", include={"batch_size", "accumulate", "drop_last"})
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
        self._programs: list[_Program[Name]] = []
        self._most: int | None = None

    def add(self, name: Name, loop: TrainingLoop) -> None:
        """Take in the training whose model was the last for which torch's global generator was seeded."""
        self.loops[name] = loop
        generator = self._generators[name] = Generator(loop.device)
        if loop.device.type == "cpu":
            generator.set_state(torch.get_rng_state())
        else:
            generator.manual_seed(loop.settings.seed)
        self._programs = []

    def remove(self, name: Name) -> None:
        del self.loops[name], self._generators[name]
        self._programs = []

    def run_epoch(self) -> dict[Name, EpochMetrics | Exception]:
        """Train an epoch of each; for one that has diverged its error.

        Where the device has not enough memory for all of them, half as many are one program from then on. Raises
        torch.OutOfMemoryError if it has not enough for one.
        """
        waiting = self._programs or self._divide(list(self.loops))
        self._programs = []
        found: dict[Name, EpochMetrics | Exception] = {}
        while waiting:
            program = waiting.pop(0)
            before = program.state() if program.may_run_out else None
            try:
                found |= program.run_epoch()
            except torch.OutOfMemoryError:
                if before is None or len(program.loops) == 1:
                    raise
                program.load_state(before)
                self._most = -(-len(program.loops) // 2)
                waiting = self._divide(list(program.loops)) + waiting
            else:
                self._programs.append(program)
        return found

    def _divide(self, names: list[Name]) -> "list[_Program[Name]]":
        """As programs of as many trainings as there is memory for. Who lies in memory behind whom changes."""
        size = self._most or len(names)
        parts = [names[start : start + size] for start in range(0, len(names), max(size, 1))]
        return [
            _Program({name: self.loops[name] for name in part}, [self._generators[name] for name in part])
            for part in parts
        ]


class _Program(Generic[Name]):
    """Trainings that are one program, made when it first runs."""

    def __init__(self, loops: dict[Name, TrainingLoop], generators: list[Generator]) -> None:
        self.loops = loops
        self._generators = generators
        self._step: FusedStep | None = None

    @property
    def may_run_out(self) -> bool:
        """Whether the device's memory may turn out not to suffice: the first epoch shows it."""
        return self._step is None and next(iter(self.loops.values())).device.type == "cuda"

    def state(self) -> list[tuple[dict[str, Any], Tensor]]:
        """Copies of what the trainings are, to come back to."""
        # In one call: the models may lie in stacks of an earlier program, and each would copy a stack as a whole.
        return copy.deepcopy(
            [
                (loop.state(), generator.get_state())
                for loop, generator in zip(self.loops.values(), self._generators, strict=True)
            ]
        )

    def load_state(self, states: list[tuple[dict[str, Any], Tensor]]) -> None:
        for loop, generator, (state, drawn) in zip(self.loops.values(), self._generators, states, strict=True):
            loop.optimizer.zero_grad()
            loop.load_state(state)
            generator.set_state(drawn)

    def run_epoch(self) -> dict[Name, EpochMetrics | Exception]:
        loops = list(self.loops.values())
        if self._step is None:
            self._step = FusedStep(loops, self._generators)
        start = time.perf_counter()
        for loop in loops:
            loop.begin_epoch()
        losses = torch.zeros(len(loops), device=self._step.device)
        correct = torch.zeros(len(loops), dtype=torch.int64, device=self._step.device)
        for images, labels in side_by_side([loop.batches for loop in loops]):
            batch_losses, right = self._step(images, labels)
            losses += batch_losses * labels.shape[1]
            correct += right
        count = loops[0].batches.images
        metrics = zip(self.loops, loops, losses.tolist(), correct.tolist(), strict=True)
        return {
            name: _attempted(partial(loop.end_epoch, loss / count, hits / count, loop.schedule.last_rate, start))
            for name, loop, loss, hits in metrics
        }


def _attempted(epoch: Callable[[], EpochMetrics]) -> EpochMetrics | Exception:
    try:
        return epoch()
    except TrainingError as problem:
        return problem
