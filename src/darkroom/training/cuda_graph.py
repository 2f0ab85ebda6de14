"""Training steps on a GPU as one CUDA graph each: the host launches once per step and not once per kernel."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from darkroom.errors import first_line
from darkroom.training.compiler import is_of_compiler
from darkroom.training.step_buffers import StepBuffers, Training

# cuDNN tries its algorithms, and the optimizer makes its state, in steps that are not captured.
WARM_UP_STEPS = 3
# A replayed step may differ from the same step without a graph by this share of what either changes: sums on a GPU
# need not have the same order each time.
TOLERANCE = 0.02
# Steps by which captured steps of several kinds are compared for speed.
TIMED_STEPS = 20


class CaptureError(RuntimeError):
    """A step cannot be captured, or what was captured does something else."""


class Recorder(Protocol):
    """Captures work on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run the work before its capture, without capturing it."""

    def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
        """Capture the work, which draws from ``generators`` and torch's own, and return a function that replays it."""

    def run_concurrently(self, works: Sequence[Callable[[], None]]) -> None:
        """Run independent works, concurrently if the device can, also when they are captured and replayed."""

    def wait(self) -> None:
        """Wait until the device has finished all work."""


class CudaGraphs:
    """Whole-network capture, as torch's notes on CUDA graphs describe it."""

    def warm_up(self, work: Callable[[], None]) -> None:
        self.run_concurrently([work])

    def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    def run_concurrently(self, works: Sequence[Callable[[], None]]) -> None:
        main, streams = torch.cuda.current_stream(), [torch.cuda.Stream() for _ in works]
        for stream, work in zip(streams, works, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                work()
        for stream in streams:
            main.wait_stream(stream)

    def wait(self) -> None:
        torch.cuda.synchronize()


class Steps(Protocol):
    """The steps of one training, or of several that take theirs together."""

    buffers: StepBuffers
    recorder: Recorder

    @property
    def generators(self) -> list[Generator]:
        """What a step draws from beside torch's own."""

    def take_step(self, size: int) -> None:
        """The next step of each training, on the next ``size`` rows. Nothing is read from the device."""


class SeparateSteps:
    """Each of ``trainings`` takes its own step, at the same time as the others."""

    def __init__(self, trainings: Sequence[Training], recorder: Recorder) -> None:
        self.buffers = StepBuffers(trainings)
        self.recorder = recorder

    @property
    def generators(self) -> list[Generator]:
        return [training.batches.augment_generator for training in self.buffers.trainings]

    def take_step(self, size: int) -> None:
        buffers = self.buffers
        rows = buffers.rows(size)
        found: dict[int, tuple[Tensor, Tensor]] = {}

        def own(number: int, training: Training) -> None:
            batches = training.batches
            images, labels = batches.take(rows[number], buffers.odd[number])
            found[number] = training.step(images, labels, batches.augment_generator)

        works = [partial(own, number, training) for number, training in enumerate(buffers.trainings)]
        if len(works) == 1:
            works[0]()
        else:
            self.recorder.run_concurrently(works)
        losses, correct = zip(*(found[number] for number in range(len(works))), strict=True)
        buffers.end_step(size, torch.stack(losses), torch.stack(correct))


class CapturedSteps:
    """The epochs of trainings whose images are on the device, by steps that are captured.

    All that a step does is in its graph: taking the rows whose turn it is, augmentation, forward and backward pass,
    update, moving average, and adding up what the epoch reports. There is a graph for each size of batch.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps, self.buffers, self.recorder = steps, steps.buffers, steps.recorder
        self.trainings = self.buffers.trainings
        self._replays: dict[int, Callable[[], None]] = {}
        self._state: object = None

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> list[tuple[float, float]]:
        """Mean loss and accuracy of one pass of each training, whose models are in training mode.

        The host waits once, at the end. Raises CaptureError if a step cannot be captured; then nothing has changed.
        """
        self.prepare()
        self.buffers.begin_epoch()
        averages = [training.average for training in self.trainings if training.average is not None]
        for size in self.buffers.sizes:
            if all(average.has_begun for average in averages):
                self._replays[size]()
            else:
                self.steps.take_step(size)
            for training in self.trainings:
                training.schedule.place += 1
            on_step()
        return self.buffers.metrics()

    def prepare(self) -> None:
        """Capture the steps, and again when other weights are trained than before, such as those that were frozen.

        The trainings are where they were. Raises CaptureError.
        """
        models = [training.model for training in self.trainings]
        state = [
            [weight.requires_grad for weight in model.parameters()] + [part.training for part in model.modules()]
            for model in models
        ]
        if state != self._state:
            with _Unchanged(self.trainings, self.buffers, self.steps.generators) as unchanged:
                self._replays = self._captured(unchanged)
            self._state = state

    def seconds(self) -> float:
        """The time of some steps. The trainings are where they were."""
        replay = self._replays[self.buffers.sizes[0]]
        with _Unchanged(self.trainings, self.buffers, self.steps.generators):
            self.recorder.wait()
            start = time.perf_counter()
            for _ in range(TIMED_STEPS):
                self.buffers.rewind()
                replay()
            self.recorder.wait()
            return time.perf_counter() - start

    def _captured(self, unchanged: "_Unchanged") -> dict[int, Callable[[], None]]:
        self.buffers.bind_rates()
        replays = {}
        try:
            for size in self.buffers.offsets:
                work = partial(self.steps.take_step, size)
                for _ in range(WARM_UP_STEPS):
                    self.buffers.rewind()
                    self.recorder.warm_up(work)
                replays[size] = self.recorder.record(work, self.steps.generators)
                self._compare(size, replays[size], unchanged)
        except RuntimeError as problem:
            if is_of_compiler(problem):
                raise
            raise CaptureError(first_line(problem)) from problem
        return replays

    def _compare(self, size: int, replay: Callable[[], None], unchanged: "_Unchanged") -> None:
        """The replayed step does for each training what the step does that was not captured. Raises CaptureError."""
        before, alone, captured = (
            self._weights_after(work, unchanged) for work in (_nothing, partial(self.steps.take_step, size), replay)
        )
        for begin, expected, found in zip(before, alone, captured, strict=True):
            change, difference = (expected - begin).norm().item(), (found - expected).norm().item()
            if not difference <= TOLERANCE * change:
                raise CaptureError(
                    f"a replayed step differs by {difference:g} where it changes the weights by {change:g}"
                )

    def _weights_after(self, work: Callable[[], None], unchanged: "_Unchanged") -> list[Tensor]:
        """Those of each training that learn, in a row."""
        unchanged.restore()
        self.buffers.rewind()
        work()
        learning = [
            [each.detach().flatten() for each in training.model.parameters() if each.requires_grad]
            for training in self.trainings
        ]
        return [torch.cat(weights) for weights in learning]


def _nothing() -> None:
    pass


class _Unchanged:
    """Inside, steps are taken for trial: afterwards weights, optimizers, averages and generators are as before.

    Tensors are known by their place in the trainings: an optimizer may exchange those that hold its state.
    """

    def __init__(self, trainings: Sequence[Training], buffers: StepBuffers, generators: Sequence[Generator]) -> None:
        self._trainings, self._buffers = trainings, buffers
        device = trainings[0].batches.device
        default = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
        self._generators = [(each, each.get_state()) for each in (*generators, default)]
        self._averages = [training.average for training in trainings if training.average is not None]
        self._have_begun = [average.has_begun for average in self._averages]
        self._saved = {place: tensor.detach().clone() for place, tensor in self._tensors()}

    def __enter__(self) -> "_Unchanged":
        return self

    def __exit__(self, *problem: object) -> None:
        self.restore()
        for training in self._trainings:
            training.step.optimizer.zero_grad()
        for average, has_begun in zip(self._averages, self._have_begun, strict=True):
            average.has_begun = has_begun

    @torch.no_grad()
    def restore(self) -> None:
        """What an optimizer has added begins at zero."""
        for place, tensor in self._tensors():
            saved = self._saved.get(place)
            if saved is None:
                tensor.zero_()
            else:
                tensor.copy_(saved)
        for generator, state in self._generators:
            generator.set_state(state)

    def _tensors(self) -> Iterator[tuple[object, Tensor]]:
        for number, training in enumerate(self._trainings):
            models = [training.model, *([training.average.model] if training.average else [])]
            found = [[*model.parameters(), *model.buffers()] for model in models]
            yield from _tensors_in((found, training.step.optimizer.state_dict()), (number,))
        yield from _tensors_in(self._buffers.tensors, ("buffers",))


def _tensors_in(value: Any, place: tuple[object, ...]) -> Iterator[tuple[object, Tensor]]:
    match value:
        case Tensor():
            yield place, value
        case dict():
            for key, each in value.items():
                yield from _tensors_in(each, (*place, key))
        case list() | tuple():
            for number, each in enumerate(value):
                yield from _tensors_in(each, (*place, number))
