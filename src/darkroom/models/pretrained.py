"""Transfer learning: a model of torchvision or timm, pretrained on other images, with a new head."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import ModelError, first_line
from darkroom.models.architecture import Shape, register
from darkroom.models.backbone import Backbone
from darkroom.models.mlp import mlp
from darkroom.models.network import Network, last_layer
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
    input_size: int | None = None,
    train: str = "head",
    head_init: str = "zeros",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.0,
    freeze_epochs: int = 1,
    last_blocks: int = 3,
    layer_lr_decay: float = 0.8,
    freeze_norm: bool = False,
) -> nn.Module:
    """``backbone`` is a model that ``find_backbone`` knows; ``hidden`` and ``dropout`` are of the head, as of an mlp.

    With ``train`` "head" only the head learns, on features. With "all" and "last-blocks" so it does for
    ``freeze_epochs``; then all blocks learn, or the ``last_blocks``, each at ``layer_lr_decay`` times the rate of the
    one behind it (Howard and Ruder, "Universal language model fine-tuning", 2018). ``head_init`` needs training images
    and is for the training. With ``freeze_norm`` batch normalization keeps the averages that came with the weights:
    those of small batches are worse. Images are widened to three channels, normalized and resized as the weights
    expect, or to ``input_size`` pixels a side. Raises ModelError for an unknown backbone, or a size that it does not
    take.
    """
    path = Path(weights_path) if weights_path else None
    found = find_backbone(backbone)
    # Built for these classes, so that a model without a layer for them is found out.
    model = found.build(classes)
    replaced = tuple(f"{name}." for name in found.heads(model))
    head = mlp((found.without_heads(model), 1, 1), classes, hidden=hidden, dropout=dropout)
    made = Pretrained(found, model, replaced, head, path, layer_lr_decay)
    if input_size:
        made.input_size = (input_size, input_size)
        _check_size(made)
    if train != "head":
        made.freeze_epochs, made.freeze_norm = freeze_epochs, freeze_norm
        made.last_blocks = last_blocks if train == "last-blocks" else None
    return made


def find_backbone(name: str) -> Backbone:
    """The backbone by torchvision's name, or by timm's after ``timm/``. Raises ModelError if there is none."""
    return TimmBackbone(name) if name.startswith(PREFIX) else TorchvisionBackbone(name)


class Pretrained(Network):
    """The ``model`` of a backbone, without the layers whose names begin with ``replaced``, and a new ``head``.

    The model is frozen for ``freeze_epochs``, None for always; then its ``last_blocks`` learn, None for all of them.
    """

    freeze_epochs: int | None = None
    last_blocks: int | None = None
    freeze_norm = False
    # The height and width of the images that the model is given.
    input_size: tuple[int, int]

    def __init__(
        self,
        backbone: Backbone,
        model: nn.Module,
        replaced: tuple[str, ...],
        head: nn.Module,
        weights_path: Path | None,
        layer_lr_decay: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.replaced = replaced
        self.weights_path = weights_path
        self.layer_lr_decay = layer_lr_decay
        self.pixel_mean, self.pixel_std = backbone.mean, backbone.std
        self.input_size = backbone.size
        self.model = model
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits

    @property
    def feature_count(self) -> int:
        return next(self.head.parameters()).shape[1]

    def features(self, images: Tensor) -> Tensor:
        """The input of the head for normalized ``images`` float [N, 3, H, W]: [N, features]."""
        if images.shape[-2:] != self.input_size:
            images = F.interpolate(images, self.input_size, mode=self.backbone.interpolation, antialias=True)
        features: Tensor = self.model(images)
        return features.flatten(1)

    def initialize(self, images: Tensor) -> None:
        """Load the weights of all but the head. Raises ModelError if they are missing or do not fit."""
        path = self.fetch()
        states = self.model.state_dict()
        found = self._of_backbone(read_weights(path))
        wanted = needed(states, found, ())
        check_fit(found, wanted, path, f"{self.backbone.name} (model.backbone)")
        self.model.load_state_dict({key: found[key] for key in wanted}, strict=False)

    def fetch(self) -> Path:
        return self.weights_path or self.backbone.fetch()

    @property
    def heads(self) -> tuple[str, ...]:
        return (f"head.{last_layer(self.head)}",)

    @property
    def added(self) -> tuple[str, ...]:
        return ("head",)

    def named(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        states = self.state_dict()
        found = named_like(self._current(weights), states)
        if not found.keys() & states.keys():
            found = {f"model.{key}": value for key, value in self._of_backbone(weights).items()}
        return _without(found, tuple(f"model.{name}" for name in self.replaced))

    def _of_backbone(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's weights under the names of the model, without those of the layers that the head replaces."""
        return _without(named_like(self._current(weights), self.model.state_dict()), self.replaced)

    def _current(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {self.backbone.current_name(key): value for key, value in weights.items()}

    def class_layer(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Of a file's ``weights`` those of the dense layer that the head replaces: [K, features] and the bias [K].

        None if there is none, or more than one, or if it tells no classes apart.
        """
        found = named_like(self._current(weights), self.model.state_dict())
        names = [name for name in self.replaced if f"{name}weight" in found]
        if len(names) != 1:
            return None
        weight = found[f"{names[0]}weight"]
        if weight.shape[1:] != (self.feature_count,) or len(weight) < 2:
            return None
        bias = found.get(f"{names[0]}bias", weight.new_zeros(len(weight)))
        return (weight, bias) if bias.shape == weight.shape[:1] else None

    def begin_epoch(self, epoch: int) -> None:
        frozen = self.freeze_epochs is None or epoch <= self.freeze_epochs
        blocks = self._blocks()
        learning = [] if frozen else list(blocks) if self.last_blocks is None else list(blocks)[-self.last_blocks :]
        # In evaluation mode the normalization of what does not learn keeps the averages that belong to its weights.
        self.model.train(len(learning) == len(blocks))
        self.model.requires_grad_(False)
        for name in learning:
            if name:  # a weight of the model itself belongs to no module that could be in a mode
                self.model.get_submodule(name).train()
            for parameter in blocks[name]:
                parameter.requires_grad_(True)
        if self.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def lr_factors(self) -> dict[nn.Parameter, float]:
        blocks = self._blocks()
        return {
            parameter: self.layer_lr_decay ** (len(blocks) - number)
            for number, parameters in enumerate(blocks.values())
            for parameter in parameters
        }

    def _blocks(self) -> dict[str, list[nn.Parameter]]:
        """The weights of each block of the model by its name, from the pixels to the features."""
        blocks: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            block = BLOCK.match(name)
            blocks.setdefault(block[0] if block else name.rpartition(".")[0], []).append(parameter)
        return blocks


def _check_size(network: Pretrained) -> None:
    """Raises ModelError if the model takes no images of ``input_size``: some know one size, and all a smallest one."""
    weight = next(network.model.parameters())
    is_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network.features(torch.zeros(1, 3, *network.input_size, device=weight.device))
    except (RuntimeError, AssertionError, ValueError) as problem:
        taken, usual = ("x".join(map(str, size)) for size in (network.input_size, network.backbone.size))
        raise ModelError(
            f"model.input_size: {network.backbone.name} does not take images of {taken} pixels "
            f"({first_line(problem)}); leave it empty for {usual}"
        ) from None
    network.train(is_training)


def _without(weights: Mapping[str, Tensor], beginnings: tuple[str, ...]) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if not key.startswith(beginnings)}
