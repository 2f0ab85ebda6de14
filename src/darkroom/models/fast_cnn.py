"""A small network that trains fast: whitened patches first, then three groups of convolutions.

After airbench (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024), whose elements are taken:
the frozen whitening layer, identity initialization, the short memory of the normalization's averages, and
for the deeper one a shortcut in each group.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import ModelError
from darkroom.models.architecture import Shape, register
from darkroom.models.dropout import Dropout
from darkroom.models.network import Network

GROUPS = 3
CONVOLUTIONS = {8: 2, 11: 3}  # of each group, by the layers of the whole
PATCH = 2  # pixels a side
# Keeps directions in which the patches hardly vary from being blown up.
EPSILON = 5e-4
# Share of the newest batch in the running averages: trainings are so short that torch's 0.1 would lag behind.
MOMENTUM = 0.4
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


# After the whitening and three halvings two pixels are left: with one, a batch of a single image could not be
# normalized.
@register("fast-cnn", "whitened patches and three groups of convolutions, of the airbench family; 8 or 11 layers",
          smallest=17, channels_last=True)  # fmt: skip
def fast_cnn(
    shape: Shape,
    classes: int,
    *,
    depth: int = 8,
    filters: tuple[int, ...] = (64, 256, 256),
    dropout: float = 0.0,
    activation: str = "relu",
    freeze_norm_scale: bool = False,
    whitening_epochs: int | None = None,
) -> nn.Module:
    """``filters`` of each of the three groups; dropout precedes the last layer.

    With ``freeze_norm_scale`` the scales of the normalization stay 1. The bias of the whitening learns for
    ``whitening_epochs``, or in all epochs. Raises ModelError.
    """
    if depth not in CONVOLUTIONS:
        raise ModelError(f"model.depth: fast-cnn has {' or '.join(map(str, CONVOLUTIONS))} layers, not {depth}")
    if len(filters) != GROUPS:
        raise ModelError(f"model.filters: fast-cnn has {GROUPS} groups, so it needs {GROUPS} numbers, got {[*filters]}")
    network = _FastCnn(shape[0], classes, filters, CONVOLUTIONS[depth], dropout, activation, whitening_epochs)
    if freeze_norm_scale:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.requires_grad_(False)
    return network


class _FastCnn(Network):
    def __init__(
        self,
        channels: int,
        classes: int,
        filters: tuple[int, ...],
        convolutions: int,
        dropout: float,
        activation: str,
        whitening_epochs: int | None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.whitening_epochs = whitening_epochs
        self.whitening = Whitening(channels)
        sizes = (self.whitening.outputs, *filters)
        self.groups = nn.Sequential(*(_Group(*pair, convolutions, self.activation) for pair in pairwise(sizes)))
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(filters[-1], classes, bias=False)

    def initialize(self, images: Tensor) -> None:
        self.whitening.fit(images)

    def begin_epoch(self, epoch: int) -> None:
        last = self.whitening_epochs
        self.whitening.bias.requires_grad_(last is None or epoch <= last)

    def forward(self, images: Tensor) -> Tensor:
        features = self.groups(self.activation(self.whitening(images)))
        logits: Tensor = self.head(self.dropout(features.amax((2, 3))))
        return logits


class Whitening(nn.Module):
    """Patches of 2x2 pixels on their principal axes, each scaled to variance 1, with both signs; not trained."""

    filters: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = channels * PATCH**2
        self.outputs = 2 * inputs
        axes = torch.eye(inputs).view(inputs, channels, PATCH, PATCH)
        self.register_buffer("filters", torch.cat([axes, -axes]))
        self.bias = nn.Parameter(torch.zeros(self.outputs))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        channels = images.shape[1]
        patches = F.unfold(images.contiguous(), PATCH).transpose(0, 1).flatten(1)
        # Such a small matrix is decomposed faster on the CPU than work can be sent to a GPU.
        variances, axes = torch.linalg.eigh((patches @ patches.T / patches.shape[1]).double().cpu())
        whitening = (axes / (variances + EPSILON).sqrt()).T.reshape(-1, channels, PATCH, PATCH)
        self.filters.copy_(torch.cat([whitening, -whitening]))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.filters, self.bias)


class _Group(nn.Module):
    def __init__(self, inputs: int, outputs: int, convolutions: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs] + [outputs] * (convolutions - 1)
        self.convolutions = nn.ModuleList(nn.Conv2d(size, outputs, 3, padding=1, bias=False) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs, momentum=MOMENTUM) for _ in sizes)
        for convolution in self.convolutions:
            # The first filters pass their channel on as it is, the others begin at random.
            weight = convolution.weight
            assert isinstance(weight, Tensor)
            nn.init.dirac_(weight[: weight.shape[1]])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.activation(self.norms[0](F.max_pool2d(self.convolutions[0](images), 2)))
        shortcut = features
        for number in range(1, len(self.convolutions)):
            features = self.norms[number](self.convolutions[number](features))
            if number == 2:
                features = features + shortcut
            features = self.activation(features)
        return features
