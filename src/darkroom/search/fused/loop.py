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
from darkroom.search.fused.step import FusedStep, StackedSteps
from darkroom.training.cuda_graph import CapturedSteps, CaptureError, Recorder, SeparateSteps, Steps
from darkroom.training.loop import EpochMetrics, TrainingLoop

Name = TypeVar("Name", bound=Hashable)


def why_not(config: Config) -> str | None:
    """Why trainings cannot be made one program with others of their kind; None if they can."""
    if config.train.compile != "none":
        return "train.compile is for a single model"
    if config.train.precision == "fp16":
        return "train.precision fp16 scales the gradients of a single model"
    if config.model.name == "pretrained" and not config.model.trains_head:
        return "the layers of a pretrained model learn from epochs of their own"
    return None


def group(config: Config) -> str:
    """Trainings of one dataset whose configurations have the same group can be made one program.

    They may differ in whatever does not change the shape of a tensor or of a batch.
    """
    shape = config.model.model_dump(mode="json", exclude={"dropout", "head_init"})
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

    def __init__(self, recorder: Recorder | None = None) -> None:
        """``recorder`` captures the steps of trainings whose images are on the device."""
        self._recorder = recorder
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

    @property
    def step_seconds(self) -> list[dict[str, float]]:
        """Of each program the time of some captured steps by their kind, "stacked" or "separate"."""
        return [program.step_seconds for program in self._programs]

    def _divide(self, names: list[Name]) -> "list[_Program[Name]]":
        """As programs of as many trainings as there is memory for. Who lies in memory behind whom changes."""
        size = self._most or len(names)
        parts = [names[start : start + size] for start in range(0, len(names), max(size, 1))]
        return [
            _Program(
                {name: self.loops[name] for name in part}, [self._generators[name] for name in part], self._recorder
            )
            for part in parts
        ]


class _Program(Generic[Name]):
    """Trainings that are one program, made when it first runs."""

    def __init__(self, loops: dict[Name, TrainingLoop], generators: list[Generator], recorder: Recorder | None) -> None:
        self.loops = loops
        self._generators = generators
        self._recorder = recorder
        self._step: FusedStep | None = None
        self._captured: CapturedSteps | None = None
        self.step_seconds: dict[str, float] = {}

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
        start = time.perf_counter()
        for loop in loops:
            loop.begin_epoch()
        step = self._step or self._prepare()
        means = self._captured.run_epoch() if self._captured else self._run_steps(step)
        return {
            name: _attempted(partial(loop.end_epoch, loss, accuracy, loop.schedule.last_rate, start))
            for (name, loop), (loss, accuracy) in zip(self.loops.items(), means, strict=True)
        }

    def _run_steps(self, step: FusedStep) -> list[tuple[float, float]]:
        """Mean loss and accuracy of one pass of each training."""
        losses = torch.zeros(len(step.loops), device=step.device)
        correct = torch.zeros(len(step.loops), dtype=torch.int64, device=step.device)
        for images, labels in side_by_side([loop.batches for loop in step.loops]):
            batch_losses, right = step(images, labels)
            for loop in step.loops:
                loop.end_step()
            losses += batch_losses * labels.shape[1]
            correct += right
        count = step.loops[0].batches.images
        return [(loss / count, hits / count) for loss, hits in zip(losses.tolist(), correct.tolist(), strict=True)]

    def _prepare(self) -> FusedStep:
        """Make the step, and capture whichever is faster: it, or the steps of single models at the same time."""
        loops: list[TrainingLoop] = list(self.loops.values())
        found: dict[str, CapturedSteps] = {}
        self._step = step = FusedStep(loops, self._generators)
        # Of an earlier program, whose captured steps set rates on the device.
        for loop in loops:
            loop.schedule.move_to(loop.schedule.place)
        if self._recorder is None or loops[0].batches.split.images.device.type != loops[0].device.type:
            return step
        # In this order: the stacked update moves the optimizers' counters, and steps are captured where they are.
        kinds: dict[str, Steps] = {
            "stacked": StackedSteps(step, self._recorder), "separate": SeparateSteps(loops, self._recorder)
        }  # fmt: skip
        for kind, steps in kinds.items():
            captured = CapturedSteps(steps)
            try:
                captured.prepare()
            except CaptureError as problem:
                for loop in loops:
                    loop.do_without_capture(problem)
            else:
                found[kind], self.step_seconds[kind] = captured, captured.seconds()
        if found:
            self._captured = found[min(self.step_seconds, key=self.step_seconds.__getitem__)]
        return step


def _attempted(epoch: Callable[[], EpochMetrics]) -> EpochMetrics | Exception:
    try:
        return epoch()
    except TrainingError as problem:
        return problem
