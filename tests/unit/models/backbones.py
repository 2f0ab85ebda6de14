"""Small networks with a pretrained body, and what their tests share."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.config.settings import Model
from darkroom.models.network import Network
from darkroom.models.registry import build

BACKBONE = "mobilenet_v3_small"
HEAD = "classifier.3."
# As the file is called at download.pytorch.org.
FILE_NAME = "mobilenet_v3_small-047dcff4.pth"
# Of the pictures of ImageNet.
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
SHAPE = (3, 32, 32)
# The smallest of each family, and with --long those of another size.
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "maxvit_t",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_16",
    *(pytest.param(backbone, marks=pytest.mark.long) for backbone in ("efficientnet_b1", "vit_h_14")),
]

States = dict[str, Tensor]


def network(classes: int = 5, *, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    made = build(Model(name="pretrained", **{"backbone": BACKBONE, **settings}), SHAPE, classes)
    assert isinstance(made, Network)
    return made


@cache
def on_meta(backbone: str, **settings: Any) -> Any:
    """A network for seven classes without numbers, which takes little time to make, where its family allows that."""
    with torch.device("cpu" if backbone.startswith("regnet") else "meta"):
        return network(7, backbone=backbone, **settings)


def images(count: int = 4, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def of_backbone(states: States) -> States:
    return {key: value for key, value in states.items() if not key.startswith(HEAD)}


def assert_same(found: States, expected: States) -> None:
    assert found.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
