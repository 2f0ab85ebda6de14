"""One optimizer step on one batch."""

import torch
from torch import Generator, Tensor, nn, optim
from torch.nn import functional as F

from darkroom.data.augmentation.mixing import Target, mix
from darkroom.data.batches import Split
from darkroom.settings import Augment, Train
from darkroom.training.device import autocast


class TrainStep:
    """Forward, loss, backward and update, as the settings say.

    The loss is the mean cross-entropy of the batch. With balanced class weights each image counts by the
    inverse frequency of its class in ``train``; a batch that goes through the model in several parts gives
    the gradient of the whole.
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
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.settings = settings
        self.augment = augment
        self.device = device
        self.precision = precision
        self.weights = _balanced_weights(train.labels).to(device) if settings.class_weights == "balanced" else None

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Train on ``images`` uint8 [N, C, H, W] and ``labels`` int64 [N]; ``generator`` draws what is mixed.

        Returns the mean loss and the number of right answers, on the device: the host does not wait for them.
        """
        target = Target(labels)
        if self.augment.mixup or self.augment.cutmix:
            images, target = mix(images, labels, self.augment, generator)
        self.optimizer.zero_grad()
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        weight = self._weight(target)
        parts = self.settings.accumulate
        for part, shown in zip(images.chunk(parts), target.chunk(parts), strict=True):
            with autocast(self.device, self.precision):
                logits = self.model(part)
            part_loss = self._losses(logits, shown).sum() / weight
            part_loss.backward()
            loss += part_loss.detach()
            correct += (logits.detach().argmax(1) == shown.dominant).sum()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        return loss, correct

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

    def _weight(self, target: Target) -> Tensor | int:
        """What the images of a batch count together."""
        if self.weights is None:
            return len(target.labels)
        weights = self.weights[target.labels]
        if target.partners is not None and target.share is not None:
            weights = target.share * weights + (1 - target.share) * self.weights[target.partners]
        return weights.sum()


def _balanced_weights(labels: Tensor) -> Tensor:
    """For each class the mean size of a class over its own: scikit-learn's "balanced"."""
    counts = labels.bincount()
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1))
