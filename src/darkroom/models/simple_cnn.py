"""The small convolutional network of the tutorials."""

from itertools import pairwise

from torch import nn

from darkroom.models.architecture import Shape, register
from darkroom.models.dropout import Dropout


@register("simple-cnn", "3x3 convolutions with ReLU and max pooling, then dense layers", smallest=4, channels_last=True)
def simple_cnn(
    shape: Shape,
    classes: int,
    *,
    filters: tuple[int, ...] = (32, 64),
    pooling: str = "each",
    hidden: tuple[int, ...] = (128,),
    dropout: float = 0.25,
) -> nn.Module:
    """``filters`` of each convolution, ``hidden`` units of each dense layer; dropout precedes each dense layer.

    Pooling halves the image after "each" convolution, "between" them or nowhere ("none"), for as long as two
    pixels are left.
    """
    channels, height, width = shape
    pooled = {"each": len(filters), "between": len(filters) - 1, "none": 0}[pooling]
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise((channels, *filters))):
        layers.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
        if number < pooled and min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        # The same numbers as ReLU before pooling, at a quarter of its work.
        layers.append(nn.ReLU())
    layers.append(nn.Flatten())
    sizes = (filters[-1] * height * width, *hidden, classes)
    for inputs, outputs in pairwise(sizes):
        layers += [Dropout(dropout), nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
