"""The buffers on the device that captured steps read and add to."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from darkroom.data.batches import TrainBatches
from darkroom.training.ema import MovingAverage
from darkroom.training.schedule import Schedule
from darkroom.training.step import TrainStep


class Training(Protocol):
    """The parts of a training that its steps use."""

    model: nn.Module
    batches: TrainBatches
    step: TrainStep
    schedule: Schedule
    average: MovingAverage | None


class StepBuffers:
    """The order of the images, the rates and the sums of K ``trainings``, whose batches are of one size and device.

    What changes from step to step is kept on the device: ``place`` int64 [K], the number of each training's step, and
    ``start``, where the rows of the step begin in ``order`` int64 [K, images].
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        first, several = trainings[0].batches, len(trainings)
        device, count = first.device, first.images
        self.order = torch.arange(count, device=device).repeat(several, 1)
        self.odd = torch.zeros(several, dtype=torch.bool, device=device)
        self.start = torch.zeros(1, dtype=torch.int64, device=device)
        self.place = torch.zeros(several, dtype=torch.int64, device=device)
        self.loss_sum = torch.zeros(several, device=device)
        self.correct = torch.zeros(several, dtype=torch.int64, device=device)
        full, rest = divmod(count, first.batch_size)
        self.sizes = [first.batch_size] * full + [rest] * bool(rest)
        self.offsets = {size: torch.arange(size, device=device) for size in set(self.sizes)}
        # [groups of all optimizers, steps]: a schedule that is shorter than others keeps its last rate.
        tables = [training.schedule.rates.T for training in trainings]
        longest = max(table.shape[1] for table in tables)
        padded = [torch.cat([each, each[:, -1:].expand(-1, longest - each.shape[1])], dim=1) for each in tables]
        self._rates = torch.cat(padded).to(device, torch.float32)
        owners = [number for number, table in enumerate(tables) for _ in table]
        self._owners = torch.tensor(owners, device=device)
        self._groups = [group for training in trainings for group in training.step.optimizer.param_groups]

    @property
    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        return [self.start, self.place, self.loss_sum, self.correct]

    def begin_epoch(self) -> None:
        """Draw the order of each training's epoch, and begin the sums."""
        for number, training in enumerate(self.trainings):
            self.order[number].copy_(training.batches.begin_epoch())
            self.odd[number].fill_(bool(training.batches.epoch % 2))
            self.place[number].fill_(training.schedule.place)
        for counter in (self.start, self.loss_sum, self.correct):
            counter.zero_()

    def rewind(self) -> None:
        """To the first step of a training: there are rows and a rate for it."""
        self.start.zero_()
        self.place.zero_()

    def bind_rates(self) -> None:
        """Give the optimizers rates on the device, which every step sets."""
        for group, rates in zip(self._groups, self._rates, strict=True):
            group["lr"] = rates[0].clone()

    def rows(self, size: int) -> Tensor:
        """The next ``size`` rows of each training's split: int64 [K, size]. Sets the rates of the step."""
        rates = self._rates.gather(1, self.place[self._owners][:, None])[:, 0]
        torch._foreach_copy_([group["lr"] for group in self._groups], list(rates.unbind()))
        return self.order.index_select(1, self.start + self.offsets[size])

    def end_step(self, size: int, losses: Tensor, correct: Tensor) -> None:
        """Add the mean losses float [K] and numbers of right answers int64 [K] of a step."""
        for training in self.trainings:
            if training.average is not None:
                training.average.update()
        self.loss_sum += losses * size
        self.correct += correct
        self.start += size
        self.place += 1

    def metrics(self) -> list[tuple[float, float]]:
        """Mean loss and accuracy of each training's epoch. The host waits for the device."""
        count = self.order.shape[1]
        return [
            (loss / count, correct / count)
            for loss, correct in zip(self.loss_sum.tolist(), self.correct.tolist(), strict=True)
        ]
