"""torchvision's models as backbones."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from darkroom.errors import ModelError, did_you_mean
from darkroom.models.backbone import Backbone, FileOfUrl
from darkroom.models.network import last_layer

if TYPE_CHECKING:  # torchvision takes seconds to import, and the other architectures do without
    from torchvision.models import WeightsEnum

# These answer with the logits of auxiliary heads as well while they are trained.
WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}
# These take their weights only with a version number that plain names and tensors do not hold.
WITH_VERSIONED_WEIGHTS = {"mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"}
# Names that torchvision's files still have and its models do not: its own loading translates them as well.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)"), r"\1"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def torchvision_names() -> list[str]:
    """The classification models that torchvision has weights for."""
    import torchvision

    available = set(torchvision.models.list_models(module=torchvision.models))
    return sorted(available - WITH_AUXILIARY_HEADS - WITH_VERSIONED_WEIGHTS)


class TorchvisionBackbone(Backbone):
    """A classification model by torchvision's name. Raises ModelError if there is none."""

    def __init__(self, name: str) -> None:
        import torchvision

        if name not in (available := torchvision_names()):
            raise ModelError(f"model.backbone: no model {name!r}; {did_you_mean(name, available)}")
        self.name = name
        self.weights: WeightsEnum = torchvision.models.get_model_weights(name).DEFAULT
        self.parameters = int(self.weights.meta["num_params"])
        expected: Any = self.weights.transforms()
        self.mean, self.std = tuple(expected.mean), tuple(expected.std)
        side = int(expected.crop_size[0])
        self.size = (side, side)
        self.interpolation = "bilinear"

    def build(self, classes: int) -> nn.Module:
        import torchvision

        # A vision transformer learns positions, which are those of images of one size.
        size = {"image_size": self.size[0]} if self.name.startswith("vit_") else {}
        model: nn.Module = torchvision.models.get_model(self.name, weights=None, num_classes=classes, **size)
        return model

    def heads(self, model: nn.Module) -> tuple[str, ...]:
        return (last_layer(model),)

    def cached(self) -> Path | None:
        path = FileOfUrl(self.weights.url).path
        return path if path.is_file() else None

    def fetch(self) -> Path:
        return FileOfUrl(self.weights.url).fetch(self)

    def current_name(self, key: str) -> str:
        for pattern, replacement in RENAMED:
            key = pattern.sub(replacement, key)
        return key
