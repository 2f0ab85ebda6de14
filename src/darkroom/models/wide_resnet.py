"""Wide residual networks (Zagoruyko and Komodakis, "Wide residual networks", 2016)."""

from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import ModelError
from darkroom.models.architecture import Shape, register
from darkroom.models.dropout import Dropout
from darkroom.models.projection import Projection

STEM = 16  # filters before the first stage, as in the paper


# Of five pixels two are left after two halvings: with one, a batch of a single image could not be normalized.
@register("wide-resnet", "wide residual network of 6n + 4 layers", smallest=5, channels_last=True)
def wide_resnet(
    shape: Shape, classes: int, *, depth: int = 16, widen_factor: int = 4, dropout: float = 0.0
) -> nn.Module:
    """Three stages of 16, 32 and 64 times ``widen_factor`` filters; dropout lies between a block's convolutions.

    Raises ModelError if ``depth`` is not 6n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ModelError(f"model.depth: wide-resnet has 6n + 4 layers (10, 16, 22, 28, 40), not {depth}")
    layers: list[nn.Module] = [nn.Conv2d(shape[0], STEM, kernel_size=3, padding=1, bias=False)]
    inputs = STEM
    for stage in range(3):
        outputs = STEM * 2**stage * widen_factor
        for block in range(blocks):
            layers.append(_Block(inputs, outputs, stride=2 if stage and not block else 1, dropout=dropout))
            inputs = outputs
    layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class _Block(nn.Module):
    """Normalization and ReLU come before each convolution; the shortcut is the input, projected where it must be."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else Projection(inputs, outputs, stride)

    def forward(self, images: Tensor) -> Tensor:
        active = F.relu(self.norm1(images))
        changed: Tensor = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        shortcut: Tensor = images if self.shortcut is None else self.shortcut(active)
        return shortcut + changed
