"""Transfer learning: a torchvision model that has learned from other pictures, with a new head."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import ModelError, did_you_mean
from darkroom.models.architecture import Shape, register
from darkroom.models.network import Network, head_of
from darkroom.models.weights import check_fit, named_like, needed, read_weights

if TYPE_CHECKING:  # torchvision takes seconds to import, and the other architectures do without
    from torchvision.models import WeightsEnum

# These answer with the logits of auxiliary heads as well while they are trained.
WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}
# These take their weights only with a version number that plain names and tensors do not hold.
WITH_VERSIONED_WEIGHTS = {"mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"}
# A block is named by its path up to the first number, as in layer1.0.conv1 or features.3.block.0.
BLOCK = re.compile(r"^.*?\d+[^.]*(?=\.)")
# Names that torchvision's files still have and its models do not: its own loading translates them as well.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)"), r"\1"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


@register("pretrained", "a torchvision model with weights learned elsewhere and a new head", channels_last=True)
def pretrained(
    shape: Shape,
    classes: int,
    *,
    backbone: str = "resnet18",
    weights_path: str | None = None,
    freeze_epochs: int = 1,
    layer_lr_decay: float = 0.8,
) -> nn.Module:
    """``backbone`` is a classification model that torchvision has weights for, by torchvision's name.

    For ``freeze_epochs`` only the head learns; then each block learns at ``layer_lr_decay`` times the rate of
    the one behind it (Howard and Ruder, "Universal language model fine-tuning", 2018). Images are widened to
    three channels, normalised and resized as the weights expect. Raises ModelError for an unknown backbone.
    """
    import torchvision

    available = set(torchvision.models.list_models(module=torchvision.models))
    available -= WITH_AUXILIARY_HEADS | WITH_VERSIONED_WEIGHTS
    if backbone not in available:
        raise ModelError(f"model.backbone: no model {backbone!r}; {did_you_mean(backbone, sorted(available))}")
    return _Pretrained(classes, backbone, Path(weights_path) if weights_path else None, freeze_epochs, layer_lr_decay)


class _Pretrained(Network):
    def __init__(
        self, classes: int, backbone: str, weights_path: Path | None, freeze_epochs: int, layer_lr_decay: float
    ) -> None:
        import torchvision

        super().__init__()
        self.name = backbone
        self.weights: WeightsEnum = torchvision.models.get_model_weights(backbone).DEFAULT
        self.weights_path = weights_path
        self.freeze_epochs = freeze_epochs
        self.layer_lr_decay = layer_lr_decay
        expected: Any = self.weights.transforms()
        self.pixel_mean, self.pixel_std = tuple(expected.mean), tuple(expected.std)
        self.side = int(expected.crop_size[0])
        # A vision transformer learns positions, which are those of images of one size.
        size = {"image_size": self.side} if backbone.startswith("vit_") else {}
        # Built for these classes, so that the head is new already.
        self.model: nn.Module = torchvision.models.get_model(backbone, weights=None, num_classes=classes, **size)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        logits: Tensor = self.model(images)
        return logits

    def initialize(self, images: Tensor) -> None:
        """Load the weights of all but the head. Raises ModelError if they are not there or do not fit."""
        path = self.weights_path or self._fetch()
        states = self.model.state_dict()
        found = named_like({self.current_name(key): value for key, value in read_weights(path).items()}, states)
        wanted = needed(states, found, self._head)
        check_fit(found, wanted, path, f"{self.name} (model.backbone)")
        self.model.load_state_dict({key: found[key] for key in wanted}, strict=False)

    def _fetch(self) -> Path:
        """torchvision's own file of the weights, from its cache or its host."""
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(self.weights.url).name
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                digest = path.stem.rpartition("-")[2]  # its first digits are part of the file's name
                torch.hub.download_url_to_file(self.weights.url, str(path), digest, progress=False)
            except (OSError, RuntimeError) as problem:
                reason = getattr(problem, "reason", problem)
                raise ModelError(
                    f"model.backbone: the weights of {self.name} cannot be fetched ({reason}); put {path.name} into "
                    f"{path.parent}, or name a file with its state_dict in model.weights_path"
                ) from None
        return path

    @property
    def _head(self) -> str:
        return head_of(self.model)

    def current_name(self, key: str) -> str:
        for pattern, replacement in RENAMED:
            key = pattern.sub(replacement, key)
        return key

    def begin_epoch(self, epoch: int) -> None:
        frozen = epoch <= self.freeze_epochs
        head = self.model.get_submodule(self._head)
        if frozen:
            # In evaluation mode its normalisation keeps the averages that belong to its weights.
            self.model.eval()
            head.train()
        self.model.requires_grad_(not frozen)
        head.requires_grad_(True)

    def lr_factors(self) -> dict[nn.Parameter, float]:
        head = f"{self._head}."
        blocks: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not name.startswith(head):
                block = BLOCK.match(name)
                blocks.setdefault(block[0] if block else name.rpartition(".")[0], []).append(parameter)
        return {
            parameter: self.layer_lr_decay ** (len(blocks) - number)
            for number, parameters in enumerate(blocks.values())
            for parameter in parameters
        }
