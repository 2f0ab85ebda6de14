"""The multi-layer perceptron."""

from itertools import pairwise

from torch import nn

from darkroom.models.architecture import Shape, register
from darkroom.models.dropout import Dropout


@register("mlp", "dense layers with ReLU on the flattened pixels")
def mlp(shape: Shape, classes: int, *, hidden: tuple[int, ...] = (256, 128), dropout: float = 0.0) -> nn.Module:
    """``hidden`` are the units of each dense layer; dropout follows each of them."""
    channels, height, width = shape
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((channels * height * width, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
    inputs = hidden[-1] if hidden else channels * height * width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
