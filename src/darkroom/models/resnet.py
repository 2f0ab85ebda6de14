"""Residual networks for small images: no early pooling, so that small images keep their detail."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from darkroom.errors import ModelError
from darkroom.models.architecture import Shape, register
from darkroom.models.projection import Projection

# Basic blocks of each of the four stages, two convolutions a block (He et al., 2015, table 1; 10 is half of 18).
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


# Of nine pixels two are left after three halvings: with one, a batch of a single image could not be normalized.
@register("resnet", "residual network for small images, of 9, 10, 18 or 34 layers", smallest=9, channels_last=True)
def resnet(shape: Shape, classes: int, *, depth: int = 18, width: int = 64) -> nn.Module:
    """``width`` filters in the first stage, doubled from stage to stage.

    10, 18 and 34 are ResNets (He et al., "Deep residual learning", 2015) with a 3x3 stem and no pooling before
    the first stage; 9 is the network of Page ("How to train your ResNet", 2018). Raises ModelError for other depths.
    """
    if depth == 9:
        return _nine_layers(shape[0], classes, width)
    if depth not in BLOCKS:
        raise ModelError(f"model.depth: resnet comes with 9, {', '.join(map(str, BLOCKS))} layers, not with {depth}")
    # Takes seconds to import, and the other architectures do without.
    from torchvision.models.resnet import BasicBlock

    layers: list[nn.Module] = [_convolution(shape[0], width)]
    inputs = width
    for stage, count in enumerate(BLOCKS[depth]):
        outputs = width * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(Projection(inputs, outputs, stride), nn.BatchNorm2d(outputs))
            layers.append(BasicBlock(inputs, outputs, stride, shortcut))
            inputs = outputs
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _convolution(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU())


class _Residual(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return images + changed


class _Largest(nn.Module):
    """The largest value of each channel. torch's own pooling has no deterministic gradient on a GPU."""

    def forward(self, images: Tensor) -> Tensor:
        return images.amax((2, 3), keepdim=True)


def _nine_layers(channels: int, classes: int, width: int) -> nn.Module:
    first, last = 2 * width, 8 * width
    return nn.Sequential(
        OrderedDict(
            stem=_convolution(channels, width),
            stage1=_convolution(width, first, pool=True),
            residual1=_Residual(_convolution(first, first), _convolution(first, first)),
            stage2=_convolution(first, 4 * width, pool=True),
            stage3=_convolution(4 * width, last, pool=True),
            residual3=_Residual(_convolution(last, last), _convolution(last, last)),
            pool=_Largest(),
            flatten=nn.Flatten(),
            head=ScaledLinear(last, classes, factor=0.125),
        )
    )


class ScaledLinear(nn.Linear):
    """A dense layer whose outputs are scaled: small logits at the start."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = super().forward(features)
        return torch.mul(logits, self.factor)
