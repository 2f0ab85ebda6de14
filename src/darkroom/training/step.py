"""One optimizer step on one batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Generator, Tensor, nn, optim
from torch.nn import functional as F

from darkroom.config.settings import Augment, Train
from darkroom.data.augmentation.mixing import Target, mix
from darkroom.data.batches import Split
from darkroom.data.shares import Rows
from darkroom.training.device import autocast
from darkroom.training.ranks import ALONE, Ranks
from darkroom.training.whole_batch import WholeBatch

# The first calls compile, and let the device choose its algorithms.
WARM_UP_STEPS = 3
# torch.compile's modes with CUDA graphs of their own, and the same without them.
WITHOUT_GRAPHS = {"reduce-overhead": "default", "max-autotune": "max-autotune-no-cudagraphs"}


class TrainStep:
    """Forward, loss, backward and update, as the settings say.

    The loss is the mean cross-entropy of the batch. With balanced class weights each image counts by the
    inverse frequency of its class in ``train``; a batch that goes through the model in several parts gives
    the gradient of the whole. So does one that is shared among ``ranks``: each process computes its share, and all
    take the same step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        train: Split,
        settings: Train,
        augment: Augment,
        device: torch.device,
        precision: str,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.share = ranks.share(settings, augment)
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.augment = augment
        self.device = device
        self.precision = precision
        self.shared = ranks.shared(model)
        self.forward = _compiled(model, settings.compile, device) if self.shared is None else self.shared
        # Compiled code is for one size; the smaller last batch of an epoch goes through the model as it is.
        self.compiled_size = self._part_size(min(settings.batch_size, len(train)))
        self.weights = _balanced_weights(train.labels).to(device) if settings.class_weights == "balanced" else None
        # Gradients in fp16 are scaled, or small ones would be zero (Micikevicius et al., 2018).
        self.scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self._scaled = _Whole(model, optimizer) if self.scaler else optimizer

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Train on ``images`` uint8 [N, C, H, W] and ``labels`` int64 [N]; ``generator`` draws what is mixed.

        Of a batch that is shared the images are those that this process takes, and the labels those of the whole batch.
        Returns what this process adds to the batch's mean loss and number of right answers, on the device: the host
        does not wait for them.
        """
        rows = self.rows(len(labels))
        images, target = self.mixed(images, labels, generator)
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        weight = self.total_weight(target)
        if rows is not None:
            target, weight = target.at(rows.places), weight * rows.copies
        parts = images.chunk(self.settings.accumulate)
        for number, (part, shown) in enumerate(zip(parts, target.chunk(self.settings.accumulate), strict=True), 1):
            with nullcontext() if self.shared is None or number == len(parts) else self.shared.no_sync():
                logits = self._logits(part, rows)
                part_loss = self._losses(logits, shown).sum() / weight
                self._backward(part_loss)
            loss += part_loss.detach()
            if self.ranks.is_first or not _is_copied(rows):
                correct += (logits.detach().argmax(1) == shown.dominant).sum()
        self.update()
        return loss, correct

    def _backward(self, loss: Tensor) -> None:
        if self.shared is not None:
            loss = loss * self.ranks.count  # the mean of all processes' gradients becomes their sum
        (self.scaler.scale(loss) if self.scaler else loss).backward()

    def rows(self, count: int) -> Rows | None:
        """What this process computes of a batch of ``count`` images; None if that is all of it, and it is alone."""
        return None if self.share is None else self.share.rows(count, self.device)

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at all."""
        return bool(self.augment.mixup or self.augment.cutmix)

    def mixed(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Target]:
        """The images of this process as they are trained on, and the target of the whole batch."""
        if self.mixes:
            return mix(images, labels, self.augment, generator, self.rows(len(labels)))
        return images, Target(labels)

    def update(self) -> None:
        """Change the weights by the gradients that they have."""
        if self.scaler:
            self.scaler.unscale_(self._scaled)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        if self.scaler:
            self.scaler.step(self._scaled)
            self.scaler.update()
        else:
            self.optimizer.step()

    def warm_up(self, images: Tensor, labels: Tensor) -> None:
        """Compute gradients of a batch as a step does, and leave the model and torch's generators as they were."""
        rows = self.rows(len(labels))
        if rows is not None:
            images, labels = images[rows.places], labels[rows.places]
        parts = self.settings.accumulate
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with _generators_kept(self.device):
            for _ in range(WARM_UP_STEPS):
                for shown, right in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                    self._cross_entropy(self._logits(shown, rows), right).mean().backward()
                self.optimizer.zero_grad()
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])

    def _part_size(self, count: int) -> int:
        """How many images of a batch of ``count`` go through the model at once."""
        rows = self.rows(count)
        return len(torch.arange(count if rows is None else len(rows)).chunk(self.settings.accumulate)[0])

    def _logits(self, images: Tensor, rows: Rows | None) -> Tensor:
        forward = self.forward if self.shared is not None or len(images) == self.compiled_size else self.model
        is_part = rows is not None and not _is_copied(rows)
        with autocast(self.device, self.precision), WholeBatch(self.ranks) if is_part else nullcontext():
            logits: Tensor = forward(images)
        return logits

    def _losses(self, logits: Tensor, target: Target) -> Tensor:
        """The weighted loss of each image."""
        losses = self._cross_entropy(logits, target.labels)
        if target.partners is None or target.share is None:
            return losses
        return target.share * losses + (1 - target.share) * self._cross_entropy(logits, target.partners)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        return losses if self.weights is None else losses * self.weights[labels]

    def total_weight(self, target: Target) -> Tensor | int:
        """What the images of a batch count together."""
        if self.weights is None:
            return len(target.labels)
        weights = self.weights[target.labels]
        if target.partners is not None and target.share is not None:
            weights = target.share * weights + (1 - target.share) * self.weights[target.partners]
        return weights.sum()


def _is_copied(rows: Rows | None) -> bool:
    """Whether other processes compute the same images."""
    return rows is not None and rows.copies > 1


class _Whole(optim.Optimizer):
    """An optimizer as a scaler of gradients is to see it: with the model's own parameters in one group."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer) -> None:
        super().__init__(model.parameters(), {})
        self._optimizer = optimizer

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        self._optimizer.step()


def _generators_kept(device: torch.device) -> AbstractContextManager[None]:
    """Inside, draws come from torch's global generators as usual; afterwards these are as before."""
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device.index or 0], device_type=device.type)


def _compiled(model: nn.Module, mode: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    if mode == "none":
        return model
    # The whole step is captured, see CapturedSteps: graphs of its parts would be in the way, and their buffers for
    # gradients are overwritten where a batch goes through the model in several parts.
    mode = WITHOUT_GRAPHS.get(mode, mode) if device.type == "cuda" else mode
    # torch compiles a layer for eight values of its settings, such as dropout, and then runs it as it is, silently.
    torch.compiler.reset()
    return torch.compile(model, mode=mode, dynamic=False)


def _balanced_weights(labels: Tensor) -> Tensor:
    """For each class the mean size of a class over its own: scikit-learn's "balanced"."""
    counts = labels.bincount()
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1))
