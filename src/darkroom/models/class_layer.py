"""The layer that tells the classes on which a backbone was trained, and what it says of new classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from darkroom.data.batches import CPU, Split
from darkroom.errors import CacheError
from darkroom.models.pretrained import Pretrained
from darkroom.utils.files import atomic_file

# Features that are computed with at once.
BLOCK = 4096
# Scales of the logits that are tried, as multiples of their inverse deviation.
SCALES = (0.0, *(2 ** (step / 2) for step in range(-6, 9)))


@dataclass(frozen=True)
class ClassLayer:
    """A dense layer from features to logits: ``weight`` float32 [classes, features], ``bias`` float32 [classes]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def find(cls, network: Pretrained, weights: Mapping[str, Tensor]) -> Self | None:
        """The layer that the head of ``network`` replaces, from the ``weights`` of its file; None if there is none."""
        found = network.class_layer(weights)
        return cls(*(each.float() for each in found)) if found else None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises CacheError."""
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as problem:
            raise CacheError(f"{path}: missing or damaged ({problem}); run `dvc repro` again") from None

    def write(self, path: Path) -> None:
        with atomic_file(path) as partial:
            save_file({"weight": self.weight, "bias": self.bias}, partial)

    def __call__(self, features: Tensor) -> Tensor:
        """The logits [N, classes] of features [N, D, 1, 1]."""
        return F.linear(features.flatten(1), self.weight.to(features), self.bias.to(features))


@torch.no_grad()
def combine(layer: ClassLayer, train: Split, classes: int) -> ClassLayer:
    """A layer for the ``classes`` of ``train``, whose images are features [N, D, 1, 1], from the ``layer`` of others.

    The weights of a class are the mean of those in ``layer``, weighted by the mean probability that ``layer`` gives
    each of its classes for the images of the class. What all classes have in common is left out. The logits are scaled
    so that the cross-entropy on ``train`` is smallest, where the class of an image is made of its other images: with
    few of them the logits of the image itself would be far too large. Where no class has two, their standard deviation
    is 1. An image of a new class is described by known classes as in Norouzi et al., "Zero-Shot Learning by Convex
    Combination of Semantic Embeddings" (ICLR 2014); weights of new classes are imprinted as in Qi et al., "Low-Shot
    Learning with Imprinted Weights" (CVPR 2018).
    """
    sums = torch.zeros(classes, len(layer.weight), dtype=torch.float64)
    alone = []  # the logit of each image for a class that is made of this image
    for features, labels in train.in_order(BLOCK, CPU):
        known = layer(features)
        shares = known.softmax(1)
        sums.index_add_(0, labels, shares.double())
        alone.append((shares * known).sum(1))
    labels = train.labels.cpu()
    counts = torch.bincount(labels, minlength=classes)
    averages = sums / counts.clamp(min=1)[:, None]
    common = averages.mean(0, keepdim=True)
    mixed, shared = _mixture(layer, averages - common), _mixture(layer, common)
    logits = torch.cat([mixed(features) for features, _ in train.in_order(BLOCK, CPU)])
    left_out = torch.cat(alone) - torch.cat([shared(features) for features, _ in train.in_order(BLOCK, CPU)])[:, 0]
    mean, deviation = logits.mean(0), float(logits.std(correction=0)) or 1.0
    others = counts[labels] - 1
    judged = logits - mean
    own = logits.gather(1, labels[:, None])
    judged.scatter_add_(1, labels[:, None], (own - left_out[:, None]) / others.clamp(min=1)[:, None])
    scale = _best_scale(judged[others > 0], labels[others > 0], deviation) if others.any() else 1 / deviation
    return ClassLayer(scale * mixed.weight, scale * (mixed.bias - mean))


def _mixture(layer: ClassLayer, shares: Tensor) -> ClassLayer:
    """Sums of the rows of ``layer``, weighted by ``shares`` [sums, rows]."""
    shares = shares.to(layer.weight)
    return ClassLayer(shares @ layer.weight, shares @ layer.bias)


def _best_scale(logits: Tensor, labels: Tensor, deviation: float) -> float:
    """The one of SCALES, divided by ``deviation``, by which ``logits`` give the smallest cross-entropy."""
    scales = [scale / deviation for scale in SCALES]
    losses = [float(F.cross_entropy(logits * scale, labels)) for scale in scales]
    return scales[losses.index(min(losses))]
