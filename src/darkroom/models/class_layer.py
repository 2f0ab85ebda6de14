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
    each of its classes for the images of the class. What all classes have in common is left out, and the logits are
    scaled so that the cross-entropy on ``train`` is smallest. An image of a new class is described by known classes as
    in Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ICLR 2014); weights of new
    classes are imprinted as in Qi et al., "Low-Shot Learning with Imprinted Weights" (CVPR 2018).
    """
    sums = torch.zeros(classes, len(layer.weight), dtype=torch.float64)
    for features, labels in train.in_order(BLOCK, CPU):
        sums.index_add_(0, labels, layer(features).softmax(1).double())
    counts = torch.bincount(train.labels.cpu(), minlength=classes)
    shares = sums / counts.clamp(min=1)[:, None]
    shares = (shares - shares.mean(0)).to(layer.weight)
    mixed = ClassLayer(shares @ layer.weight, shares @ layer.bias)
    logits = torch.cat([mixed(features) for features, _ in train.in_order(BLOCK, CPU)])
    mean, deviation = logits.mean(0), float(logits.std(correction=0))
    scales = [scale / (deviation or 1.0) for scale in SCALES]
    losses = [float(F.cross_entropy((logits - mean) * scale, train.labels.cpu())) for scale in scales]
    best = scales[losses.index(min(losses))]
    return ClassLayer(best * mixed.weight, best * (mixed.bias - mean))
