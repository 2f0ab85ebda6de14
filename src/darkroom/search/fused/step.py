"""One optimizer step of K models at once."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.data.augmentation.mixing import Target, mix_together
from darkroom.data.batches import take_together
from darkroom.search.fused.network import fuse
from darkroom.search.fused.update import FusedUpdate
from darkroom.training.cuda_graph import Recorder
from darkroom.training.device import autocast
from darkroom.training.loop import TrainingLoop
from darkroom.training.step_buffers import StepBuffers


class FusedStep:
    """What ``TrainStep`` does, for the models of ``loops``: one forward and backward pass, then each one's update.

    The losses of the models are added up, so that each model's gradient is that of its own loss. ``generators``, one
    for each model and on its device, draw dropout.
    """

    def __init__(self, loops: Sequence[TrainingLoop], generators: Sequence[Generator]) -> None:
        self.loops = loops
        self.device, self.precision = loops[0].device, loops[0].precision
        self.parts = loops[0].settings.accumulate
        self.generators = generators
        self.model, self.layers = fuse([loop.model for loop in loops], generators)
        smoothing = [loop.settings.label_smoothing for loop in loops]
        self.smoothing = _like_weights(smoothing, loops[0].model)[:, None] if any(smoothing) else None
        self.class_weights = _class_weights(loops)
        self.update = FusedUpdate(loops)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Train each model on its batch: images uint8 [K, N, C, H, W] and labels int64 [K, N].

        Returns the mean losses float [K] and the numbers of right answers int64 [K], on the device.
        """
        images, targets = self._mixed(images, labels)
        totals = self._total_weights(targets)
        count = len(self.loops)
        losses = torch.zeros(count, device=self.device)
        correct = torch.zeros(count, dtype=torch.int64, device=self.device)
        for layer in self.layers:
            layer.forget_gradients()
        parts = zip(*(target.chunk(self.parts) for target in targets), strict=True)
        for part, target in zip(images.chunk(self.parts, 1), parts, strict=True):
            together = _concatenate_targets(target)
            with autocast(self.device, self.precision):
                logits = self.model(part.flatten(0, 1))
            part_losses = self._losses(logits, together).sum(1) / totals
            part_losses.sum().backward()
            losses += part_losses.detach()
            correct += (logits.detach().argmax(1) == together.dominant).view(count, -1).sum(1)
        for layer in self.layers:
            layer.share_gradients()
        self.update()
        return losses, correct

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Target]]:
        if not any(loop.step.mixes for loop in self.loops):
            return images, [Target(own) for own in labels]
        settings = [loop.step.augment for loop in self.loops]
        if not any(each.cutmix for each in settings):
            return mix_together(images, labels, settings, [loop.batches.augment_generator for loop in self.loops])
        mixed = [
            loop.step.mixed(own, right, loop.batches.augment_generator)
            for loop, own, right in zip(self.loops, images, labels, strict=True)
        ]
        return torch.stack([shown for shown, _ in mixed]), [target for _, target in mixed]

    def _total_weights(self, targets: Sequence[Target]) -> Tensor | int:
        """What the images of each batch count together: [K], or for all the same. Nothing is read from the device."""
        if self.class_weights is None:
            return len(targets[0].labels)
        weights = [loop.step.total_weight(target) for loop, target in zip(self.loops, targets, strict=True)]
        return torch.stack(
            [weight if isinstance(weight, Tensor) else torch.full((), weight, device=self.device) for weight in weights]
        )

    def _losses(self, logits: Tensor, target: Target) -> Tensor:
        """The weighted loss of each image: [K, N]."""
        log_probabilities = F.log_softmax(logits, 1).unflatten(0, (len(self.loops), -1))
        losses = self._cross_entropy(log_probabilities, target.labels)
        if target.partners is None or target.share is None:
            return losses
        share = target.share.view_as(losses)
        return share * losses + (1 - share) * self._cross_entropy(log_probabilities, target.partners)

    def _cross_entropy(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """As torch's, whose label smoothing is one number for all."""
        labels = labels.view(len(self.loops), -1)
        losses = -log_probabilities.gather(2, labels[:, :, None])[:, :, 0]
        if self.smoothing is not None:
            losses = losses - self.smoothing * (losses + log_probabilities.mean(2))
        if self.class_weights is not None:
            losses = losses * self.class_weights.gather(1, labels)
        return losses


class StackedSteps:
    """A ``FusedStep`` and what it is taken with, in the memory of the device: a step that can be captured."""

    def __init__(self, step: FusedStep, recorder: Recorder) -> None:
        self.step = step
        self.buffers = StepBuffers(step.loops)
        self.recorder = recorder

    @property
    def generators(self) -> list[Generator]:
        return [*self.step.generators, *(loop.batches.augment_generator for loop in self.step.loops)]

    def take_step(self, size: int) -> None:
        rows = self.buffers.rows(size)
        images, labels = take_together([loop.batches for loop in self.step.loops], rows, self.buffers.odd)
        self.buffers.end_step(size, *self.step(images, labels))


def _like_weights(values: Sequence[float], model: nn.Module) -> Tensor:
    return next(model.parameters()).new_tensor(values)


def _class_weights(loops: Sequence[TrainingLoop]) -> Tensor | None:
    """[K, classes], if any model weighs its classes."""
    given = next((loop.step.weights for loop in loops if loop.step.weights is not None), None)
    if given is None:
        return None
    alike = torch.ones_like(given)
    return torch.stack([alike if loop.step.weights is None else loop.step.weights for loop in loops])


def _concatenate_targets(targets: Sequence[Target]) -> Target:
    labels = torch.cat([target.labels for target in targets])
    if all(target.partners is None for target in targets):
        return Target(labels)
    partners = [target.labels if target.partners is None else target.partners for target in targets]
    shares = [
        torch.ones(len(target.labels), device=labels.device) if target.share is None else target.share
        for target in targets
    ]
    return Target(labels, torch.cat(partners), torch.cat(shares))
