"""A backbone as small as the other architectures here, with weights of its own making."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from darkroom.models.backbone import Backbone


class TinyBackbone(Backbone):
    """Two blocks of convolutions with batch normalization, whose weights are written to a file in ``folder``."""

    name = "tiny"
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    size = (12, 12)  # other than that of the images, which are resized
    interpolation = "bilinear"
    parameters = None

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tiny.pth"

    def build(self, classes: int) -> nn.Module:
        parts = {
            "block1": _block(3, 4),
            "block2": _block(4, 6),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
            "head": nn.Linear(6, classes),
        }
        return nn.Sequential(OrderedDict(parts))

    def heads(self, model: nn.Module) -> tuple[str, ...]:
        return ("head",)

    def cached(self) -> Path | None:
        return self.path if self.path.is_file() else None

    def fetch(self) -> Path:
        if not self.path.is_file():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(7)
                torch.save(self.build(3).state_dict(), self.path)
        return self.path


def _block(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, outputs, 3, stride=2), nn.BatchNorm2d(outputs), nn.ReLU())
