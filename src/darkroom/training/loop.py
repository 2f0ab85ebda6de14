"""The state of a training between epochs, and what one epoch does."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import Split, TrainBatches
from darkroom.errors import TrainingError
from darkroom.models.network import networks
from darkroom.training.compiler import is_of_compiler, not_compiled
from darkroom.training.cuda_graph import CapturedSteps, CaptureError, CudaGraphs, Recorder, SeparateSteps
from darkroom.training.device import autocast, choose_precision, set_tf32
from darkroom.training.ema import MovingAverage
from darkroom.training.optimizers import build_optimizer
from darkroom.training.ranks import ALONE, Ranks
from darkroom.training.schedule import Schedule
from darkroom.training.step import TrainStep

# Validation needs no gradients, so its batches can be larger than training's.
VALIDATION_BATCH = 1024


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch: mean losses, accuracies of 0 to 1, the last learning rate, and the time it took.

    Of trainings that are one program each has the time of all of them.
    The training metrics are of the batches as they were trained on: augmented, with dropout, under
    weights that changed meanwhile.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float

    def monitored(self, monitor: str) -> float:
        """The validation metric that ``train.monitor`` names."""
        return self.val_loss if monitor == "loss" else self.val_accuracy


@dataclass
class FitResult:
    """The epochs of a training, and why it ended.

    ``warm_up_seconds`` went into compiling and the first launches, before the first epoch; ``notes`` say what a
    training on a GPU had to do without.
    """

    monitor: str
    history: list[EpochMetrics] = field(default_factory=list)
    stopped_early: bool = False
    warm_up_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> EpochMetrics:
        """The epoch with the best monitored validation metric, whose weights are kept."""
        return min(self.history, key=self.badness)

    def badness(self, metrics: EpochMetrics) -> tuple[float, float]:
        """The monitored metric such that lower is better; of equal accuracies the one with less loss is better."""
        return (0.0 if self.monitor == "loss" else -metrics.val_accuracy), metrics.val_loss


class TrainingLoop:
    """The state of a training between two epochs."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        val: Split,
        settings: Train,
        augment: Augment,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.settings = settings
        self.device = device
        self.precision = choose_precision(settings, device)
        self.ranks = ranks
        ranks.send_from_first(model)
        self.batches = TrainBatches(
            train,
            settings.batch_size,
            augment,
            settings.seed,
            settings.sampler,
            device,
            drop_last=settings.drop_last,
            share=ranks.share(settings, augment),
        )
        self.val = val
        self.optimizer = build_optimizer(model, settings)
        self.step = TrainStep(model, self.optimizer, train, settings, augment, device, self.precision, ranks)
        self.schedule = Schedule(self.optimizer, settings, len(self.batches))
        self.result = FitResult(settings.monitor)
        self.best_weights: dict[str, Tensor] = {}
        self.captured: CapturedSteps | None = None
        self.average = None if settings.ema is None else MovingAverage(model, settings.ema)

    def warm_up(self) -> None:
        """Load, compile and capture what a step needs. The state of the training is not changed.

        Raises ConfigError if the model cannot be compiled here.
        """
        start = time.perf_counter()
        try:
            self._warm_up()
        except RuntimeError as problem:
            if not is_of_compiler(problem):
                raise
            raise not_compiled(problem, self.settings.compile) from None
        if self.device.type != "cpu" or self.settings.compile != "none":
            self.result.warm_up_seconds = time.perf_counter() - start

    def _warm_up(self) -> None:
        # By its type: tensors know the number of their device, and what was chosen need not.
        is_there = self.batches.split.images.device.type == self.device.type == "cuda"
        if is_there and not self.step.scaler and self.ranks.count == 1:
            self.capture(CudaGraphs())
        elif self.device.type != "cpu" or self.settings.compile != "none":
            rows = torch.arange(self.batches.batch_size, device=self.batches.split.images.device)
            self.model.train()
            self.step.warm_up(*self.batches.split.take(rows, self.device))

    def capture(self, recorder: Recorder) -> None:
        """Take the steps as ``recorder`` replays them, if it can."""
        self.begin_epoch()
        self.captured = CapturedSteps(SeparateSteps([self], recorder))
        try:
            self.captured.prepare()
        except CaptureError as problem:
            self.do_without_capture(problem)

    def stop_capturing(self) -> None:
        """Take the remaining steps kernel by kernel."""
        self.captured = None
        # The rates are tensors of the captured steps.
        self.schedule.move_to(self.schedule.place)

    def do_without_capture(self, problem: CaptureError) -> None:
        """Note why the steps are taken kernel by kernel, and take them so."""
        self.result.notes.append(f"steps are slower, as they are not captured: {problem}")
        self.stop_capturing()

    @property
    def validated_model(self) -> nn.Module:
        """The model that is validated and kept: the moving average, where there is one."""
        return self.model if self.average is None else self.average.model

    @property
    def _device_rng(self) -> Any:
        """The module with the device's own global generator, if it has one beside the CPU's."""
        return {"cuda": torch.cuda, "mps": torch.mps}.get(self.device.type)

    @property
    def finished(self) -> bool:
        history = self.result.history
        return len(history) == self.settings.epochs or self.result.stopped_early

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> EpochMetrics:
        start = time.perf_counter()
        train_loss, train_accuracy, lr = self.train_pass(on_step)
        return self.end_epoch(train_loss, train_accuracy, lr, start)

    def end_epoch(self, train_loss: float, train_accuracy: float, lr: float, start: float) -> EpochMetrics:
        """Validate and record an epoch that began at ``start``, of time.perf_counter.

        Raises TrainingError if a loss is not finite.
        """
        epoch = len(self.result.history) + 1
        val_loss, val_accuracy = evaluate(self.validated_model, self.val, self.device, self.precision, self.ranks)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise TrainingError(
                f"epoch {epoch}: the loss is no longer finite (train {train_loss}, validation {val_loss}); "
                f"lower train.lr (now {self.settings.lr:g}) or set train.clip_norm"
            )
        seconds = time.perf_counter() - start
        metrics = EpochMetrics(epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds)
        self._record(metrics)
        return metrics

    def train_pass(self, on_step: Callable[[], None] = lambda: None) -> tuple[float, float, float]:
        """Loss, accuracy and last learning rate of one pass. The host waits for the device once, at the end."""
        self.begin_epoch()
        if self.captured:
            try:
                [(mean, accuracy)] = self.captured.run_epoch(on_step)
            except CaptureError as problem:
                self.do_without_capture(problem)
            else:
                return mean, accuracy, self.schedule.last_rate
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, labels in self.batches:
            loss, right = self.step(images, labels, self.batches.augment_generator)
            self.end_step()
            loss_sum += loss * len(labels)
            correct += right
            on_step()
        self.ranks.add_up([loss_sum])
        self.ranks.add_up([correct])
        count = self.batches.images
        return loss_sum.item() / count, correct.item() / count, self.schedule.last_rate

    def begin_epoch(self) -> None:
        set_tf32(self.device, self.precision)
        self.model.train()
        for network in networks(self.model):
            network.begin_epoch(len(self.result.history) + 1)

    def end_step(self) -> None:
        """What follows each optimizer step."""
        self.schedule.step()
        if self.average is not None:
            self.average.update()

    def _record(self, metrics: EpochMetrics) -> None:
        result = self.result
        result.history.append(metrics)
        if result.best is metrics:
            self.best_weights = {
                name: value.detach().clone() for name, value in self.validated_model.state_dict().items()
            }
        waited = metrics.epoch - result.best.epoch
        patience = self.settings.patience
        result.stopped_early = patience is not None and waited >= patience and metrics.epoch < self.settings.epochs

    def state(self) -> dict[str, Any]:
        """Everything the remaining epochs depend on."""
        return {
            "ranks": self.ranks.count,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.schedule.place,
            "order": self.batches.generator.get_state(),
            "augment": self.batches.augment_generator.get_state(),
            "average": self.average.state_dict() if self.average is not None else None,
            "rng": torch.get_rng_state(),
            "device_rng": self._device_rng.get_rng_state() if self._device_rng else None,
            "scaler": self.step.scaler.state_dict() if self.step.scaler else None,
            "best_weights": self.best_weights,
            "history": [asdict(metrics) for metrics in self.result.history],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.move_to(state["step"])
        self.batches.generator.set_state(state["order"])
        self.batches.augment_generator.set_state(state["augment"])
        self.batches.epoch = len(state["history"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.step.scaler:
            self.step.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if self._device_rng:
            self._device_rng.set_rng_state(state["device_rng"])
        self.result.history.clear()
        for metrics in state["history"]:
            self._record(EpochMetrics(**metrics))
        self.best_weights = state["best_weights"]


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Split, device: torch.device, precision: str = "fp32", ranks: Ranks = ALONE
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of ``model`` on ``split``, computed on ``device``, in evaluation mode.

    The batches are dealt out to ``ranks``. Each has a place for its sum, so that all add up the same numbers in the
    same order as one process does.
    """
    model.eval()
    batch_size = split.at_once(VALIDATION_BATCH, device)
    batches = -(-len(split) // batch_size)
    losses = torch.zeros(batches, device=device)
    correct = torch.zeros(batches, dtype=torch.int64, device=device)
    dealt = split.in_order(batch_size, device, ranks.rank, ranks.count)
    for number, (images, labels) in zip(range(ranks.rank, batches, ranks.count), dealt, strict=True):
        with autocast(device, precision):
            logits = model(images)
        losses[number] = F.cross_entropy(logits, labels, reduction="sum")
        correct[number] = (logits.argmax(1) == labels).sum()
    ranks.add_up([losses])
    ranks.add_up([correct])
    return losses.sum().item() / len(split), correct.sum().item() / len(split)
