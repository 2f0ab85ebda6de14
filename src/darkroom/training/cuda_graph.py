"""Training steps on a GPU as one CUDA graph each: the host launches once a step, and not once a kernel."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from darkroom.data.batches import TrainBatches
from darkroom.errors import first_line
from darkroom.training.ema import MovingAverage
from darkroom.training.schedule import Schedule
from darkroom.training.step import TrainStep, is_of_compiler

# cuDNN tries its algorithms, and the optimizer makes its state, in steps that are not captured.
WARM_UP_STEPS = 3
# A replayed step may differ from the same step without a graph by this share of what either changes: sums on a GPU
# need not have the same order each time.
TOLERANCE = 0.02


class CaptureError(RuntimeError):
    """A step cannot be captured, or what was captured does something else."""


class Recorder(Protocol):
    """What captures work on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do the work as it is done before it is captured."""

    def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
        """Capture the work, which draws from ``generators`` and torch's own, and return what repeats it."""


class CudaGraphs:
    """Whole-network capture, as torch's notes on CUDA graphs describe it."""

    def warm_up(self, work: Callable[[], None]) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()
        torch.cuda.current_stream().wait_stream(aside)

    def record(self, work: Callable[[], None], generators: Sequence[Generator]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
        replay: Callable[[], None] = graph.replay
        return replay


class CapturedSteps:
    """The steps of a training whose images are on the device.

    All that a step does is in its graph: taking the rows whose turn it is, augmentation, forward and backward pass,
    update, moving average, and adding up what the epoch reports. What changes from step to step is kept on the device:
    ``place``, the number of the step, and ``start``, where its rows begin. There is a graph for each size of batch.
    """

    def __init__(
        self,
        batches: TrainBatches,
        step: TrainStep,
        schedule: Schedule,
        average: MovingAverage | None,
        recorder: Recorder,
    ) -> None:
        self.batches, self.step, self.schedule, self.average = batches, step, schedule, average
        self.recorder = recorder
        device, count = batches.device, batches.images
        self.order = torch.arange(count, device=device)
        self.odd = torch.zeros((), dtype=torch.bool, device=device)
        self.start = torch.zeros(1, dtype=torch.int64, device=device)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.rates = schedule.rates.to(device, torch.float32)
        self.loss_sum = torch.zeros((), device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        full, rest = divmod(count, batches.batch_size)
        self.sizes = [batches.batch_size] * full + [rest] * bool(rest)
        self._offsets = {size: torch.arange(size, device=device) for size in set(self.sizes)}
        self._replays: dict[int, Callable[[], None]] = {}
        self._state: object = None

    def run_epoch(self, on_step: Callable[[], None]) -> tuple[float, float]:
        """Mean loss and accuracy of one pass, whose model is in training mode. The host waits once, at the end.

        Raises CaptureError if a step cannot be captured; then nothing has changed.
        """
        self.prepare()
        self.order.copy_(self.batches.begin_epoch())
        self.odd.fill_(bool(self.batches.epoch % 2))
        for counter in (self.start, self.loss_sum, self.correct):
            counter.zero_()
        self.place.fill_(self.schedule.place)
        for size in self.sizes:
            if self.average is None or self.average.has_begun:
                self._replays[size]()
            else:
                self.take_step(size)
            self.schedule.place += 1
            on_step()
        count = len(self.order)
        return self.loss_sum.item() / count, self.correct.item() / count

    def prepare(self) -> None:
        """Capture the steps, and again when other weights are trained than before, such as those that were frozen.

        The training is where it was. Raises CaptureError.
        """
        model = self.step.model
        state = [weight.requires_grad for weight in model.parameters()] + [part.training for part in model.modules()]
        if state != self._state:
            self._replays = self._captured()
            self._state = state

    def _captured(self) -> dict[int, Callable[[], None]]:
        optimizer, average = self.step.optimizer, self.average
        self.bind_rates()
        self._rewind()
        before = _Snapshot(self._tensors(), self._generators())
        has_begun = average is not None and average.has_begun
        replays = {}
        try:
            for size in self._offsets:
                work = partial(self.take_step, size)
                for _ in range(WARM_UP_STEPS):
                    self._rewind()
                    self.recorder.warm_up(work)
                replays[size] = self.recorder.record(work, [self.batches.augment_generator])
                self._compare(size, replays[size], before)
        except RuntimeError as problem:
            if is_of_compiler(problem):
                raise
            raise CaptureError(first_line(problem)) from problem
        finally:
            before.restore(self._tensors())
            optimizer.zero_grad()
            if average is not None:
                average.has_begun = has_begun
        return replays

    def _compare(self, size: int, replay: Callable[[], None], before: "_Snapshot") -> None:
        """The replayed step does what the step does that was not captured. Raises CaptureError."""
        weights = [weight for weight in self.step.model.parameters() if weight.requires_grad]
        found = []
        for work in (partial(self.take_step, size), replay):
            before.restore(self._tensors())
            work()
            found.append(torch.cat([weight.detach().flatten() for weight in weights]))
        before.restore(self._tensors())
        begin = torch.cat([weight.detach().flatten() for weight in weights])
        change, difference = (found[0] - begin).norm().item(), (found[1] - found[0]).norm().item()
        if not difference <= TOLERANCE * change:
            raise CaptureError(f"a replayed step differs by {difference:g} where it changes the weights by {change:g}")

    def _rewind(self) -> None:
        """To the first step of a training: there are rows and a rate for it."""
        self.start.zero_()
        self.place.zero_()

    def bind_rates(self) -> None:
        """Give the optimizer rates on the device, which every step sets."""
        for number, group in enumerate(self.step.optimizer.param_groups):
            group["lr"] = self.rates[0, number].clone()

    def take_step(self, size: int) -> None:
        """The step at ``place``, on the next ``size`` rows. Nothing is read from the device."""
        rates = self.rates.index_select(0, self.place)[0]
        for rate, group in zip(rates, self.step.optimizer.param_groups, strict=True):
            group["lr"].copy_(rate)
        rows = self.order.index_select(0, self.start + self._offsets[size])
        images, labels = self.batches.take(rows, self.odd)
        loss, right = self.step(images, labels, self.batches.augment_generator)
        if self.average is not None:
            self.average.update()
        self.loss_sum += loss * size
        self.correct += right
        self.start += size
        self.place += 1

    def _tensors(self) -> list[Tensor]:
        models: list[nn.Module] = [self.step.model, *([self.average.model] if self.average else [])]
        trained = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
        own = [self.start, self.place, self.loss_sum, self.correct]
        return [*trained, *_tensors_in(self.step.optimizer.state_dict()), *own]

    def _generators(self) -> list[Generator]:
        device = self.batches.device
        default = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
        return [self.batches.augment_generator, default]


class _Snapshot:
    """Tensors and generators as they are now."""

    def __init__(self, tensors: Sequence[Tensor], generators: Sequence[Generator]) -> None:
        self._tensors = {id(tensor): tensor.detach().clone() for tensor in tensors}
        self._kept = list(tensors)  # so that no other tensor gets one of their numbers
        self._generators = [(generator, generator.get_state()) for generator in generators]

    @torch.no_grad()
    def restore(self, tensors: Sequence[Tensor]) -> None:
        """``tensors`` are those that there are now: what an optimizer has added begins at zero."""
        for tensor in tensors:
            saved = self._tensors.get(id(tensor))
            if saved is None:
                tensor.zero_()
            else:
                tensor.copy_(saved)
        for generator, state in self._generators:
            generator.set_state(state)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    match value:
        case Tensor():
            yield value
        case dict():
            yield from _tensors_in(list(value.values()))
        case list() | tuple():
            for each in value:
                yield from _tensors_in(each)
