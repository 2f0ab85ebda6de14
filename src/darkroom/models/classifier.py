"""Normalization and network as one module: from raw pixels to logits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.models import registry
from darkroom.models.network import Network

# The names of its parts in its state_dict.
SCALE = "scale"
SHIFT = "shift"
NETWORK = "network"


class Classifier(nn.Module):
    """Maps uint8 images [N, C, H, W] to logits [N, classes], float32 (float64 where the weights are).

    Normalizing inside the model means that training, evaluation, export and serving cannot disagree
    about it. ``mean`` and ``std`` are per channel, of pixels scaled to 0 to 1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        means, deviations = torch.tensor(mean), torch.tensor(std)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer(SCALE, (1 / (255 * deviations))[:, None, None])
        self.register_buffer(SHIFT, (-means / deviations)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images * self.scale + self.shift)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the initial weights that are not random: from a file, or from training ``images``.

        ``images`` are uint8 [n, C, H, W]. Raises ModelError if a file is missing or does not fit.
        """
        if isinstance(self.network, Network):
            self.network.initialize(images * self.scale + self.shift)


def build_classifier(settings: Model, card: DatasetCard) -> Classifier:
    """An untrained classifier for the dataset that ``card`` describes. Raises ModelError if they do not fit."""
    network = registry.build(settings, card.shape, len(card.classes))
    mean, std = card.mean, card.std
    if isinstance(network, Network) and network.pixel_mean and network.pixel_std:
        mean, std = tuple(network.pixel_mean), tuple(network.pixel_std)
    classifier = Classifier(network, mean, std)
    if registry.architectures()[settings.name].channels_last:
        # One and a half times as fast for convolutions on CPUs and tensor cores; the maths is the same.
        classifier = classifier.to(memory_format=torch.channels_last)
    return classifier
