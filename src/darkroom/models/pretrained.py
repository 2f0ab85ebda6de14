"""Transfer learning: a model of torchvision or timm that has learned from other pictures, with a new head."""

import re
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.architecture import Shape, register
from darkroom.models.backbone import Backbone
from darkroom.models.network import Network
from darkroom.models.timm_backbone import PREFIX, TimmBackbone
from darkroom.models.torchvision_backbone import TorchvisionBackbone
from darkroom.models.weights import check_fit, named_like, needed, read_weights

# A block is named by its path up to the first number, as in layer1.0.conv1 or features.3.block.0.
BLOCK = re.compile(r"^.*?\d+[^.]*(?=\.)")


@register("pretrained", "a model of torchvision or timm with weights learned elsewhere, new head", channels_last=True)
def pretrained(
    shape: Shape,
    classes: int,
    *,
    backbone: str = "resnet18",
    weights_path: str | None = None,
    freeze_epochs: int = 1,
    layer_lr_decay: float = 0.8,
) -> nn.Module:
    """``backbone`` is a model that ``find_backbone`` knows.

    For ``freeze_epochs`` only the head learns; then each block learns at ``layer_lr_decay`` times the rate of
    the one behind it (Howard and Ruder, "Universal language model fine-tuning", 2018). Images are widened to
    three channels, normalized and resized as the weights expect. Raises ModelError for an unknown backbone.
    """
    path = Path(weights_path) if weights_path else None
    return _Pretrained(classes, find_backbone(backbone), path, freeze_epochs, layer_lr_decay)


def find_backbone(name: str) -> Backbone:
    """The backbone by torchvision's name, or by timm's after ``timm/``. Raises ModelError if there is none."""
    return TimmBackbone(name) if name.startswith(PREFIX) else TorchvisionBackbone(name)


class _Pretrained(Network):
    def __init__(
        self, classes: int, backbone: Backbone, weights_path: Path | None, freeze_epochs: int, layer_lr_decay: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.weights_path = weights_path
        self.freeze_epochs = freeze_epochs
        self.layer_lr_decay = layer_lr_decay
        self.pixel_mean, self.pixel_std = backbone.mean, backbone.std
        # Built for these classes, so that the head is new already.
        self.model = backbone.build(classes)

    def forward(self, images: Tensor) -> Tensor:
        size = self.backbone.size
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode=self.backbone.interpolation, antialias=True)
        logits: Tensor = self.model(images)
        return logits

    def initialize(self, images: Tensor) -> None:
        """Load the weights of all but the head. Raises ModelError if they are not there or do not fit."""
        path = self.fetch()
        states = self.model.state_dict()
        found = named_like({self.current_name(key): value for key, value in read_weights(path).items()}, states)
        wanted = needed(states, found, tuple(f"{name}." for name in self._heads))
        check_fit(found, wanted, path, f"{self.backbone.name} (model.backbone)")
        self.model.load_state_dict({key: found[key] for key in wanted}, strict=False)

    def fetch(self) -> Path:
        return self.weights_path or self.backbone.fetch()

    @property
    def _heads(self) -> tuple[str, ...]:
        """The names of the layers in the backbone's model that give the logits."""
        return self.backbone.heads(self.model)

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(f"model.{name}" for name in self._heads)

    def current_name(self, key: str) -> str:
        return self.backbone.current_name(key)

    def begin_epoch(self, epoch: int) -> None:
        frozen = epoch <= self.freeze_epochs
        heads = [self.model.get_submodule(name) for name in self._heads]
        if frozen:
            # In evaluation mode its normalization keeps the averages that belong to its weights.
            self.model.eval()
        self.model.requires_grad_(not frozen)
        for head in heads:
            head.train()
            head.requires_grad_(True)

    def lr_factors(self) -> dict[nn.Parameter, float]:
        heads = tuple(f"{name}." for name in self._heads)
        blocks: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not name.startswith(heads):
                block = BLOCK.match(name)
                blocks.setdefault(block[0] if block else name.rpartition(".")[0], []).append(parameter)
        return {
            parameter: self.layer_lr_decay ** (len(blocks) - number)
            for number, parameters in enumerate(blocks.values())
            for parameter in parameters
        }
