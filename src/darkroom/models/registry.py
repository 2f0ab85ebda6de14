"""Every architecture by name."""

from typing import Any

import torch
from torch import nn

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models import fast_cnn, mlp, pretrained, resnet, simple_cnn, wide_resnet  # noqa: F401  register themselves
from darkroom.models.architecture import Architecture, Shape, registered


def architectures() -> dict[str, Architecture]:
    """All registered architectures by name."""
    return dict(registered)


def resolve(settings: Model) -> dict[str, Any]:
    """The settings that the architecture will be built with: those given, its own defaults for the rest."""
    given = settings.model_dump(exclude={"name"})
    defaults = registered[settings.name].defaults
    return {key: default if given[key] is None else given[key] for key, default in defaults.items()}


def without_effect(settings: Model) -> list[str]:
    """The settings that have no effect because the architecture does not accept them."""
    given = settings.model_dump(exclude={"name"}, exclude_none=True)
    return [key for key in given if key not in registered[settings.name].defaults]


def build(settings: Model, shape: Shape, classes: int) -> nn.Module:
    """Build the network for images of ``shape`` (channels, height, width).

    Raises ModelError if the images are too small for the architecture.
    """
    architecture = registered[settings.name]
    if min(shape[1:]) < architecture.smallest:
        raise ModelError(
            f"model.name: {settings.name} takes images of {architecture.smallest}x{architecture.smallest} pixels or "
            f"more, these have {shape[1]}x{shape[2]}; set preprocess.image_size or choose another model"
        )
    return architecture.build(shape, classes, **resolve(settings))


def build_without_memory(settings: Model, shape: Shape, classes: int) -> nn.Module | None:
    """Like ``build``, with weights on the meta device; None for a network that needs values to be built.

    torchvision's RegNet computes its sizes with tensors, for example. Raises ModelError.
    """
    try:
        with torch.device("meta"):
            return build(settings, shape, classes)
    except RuntimeError:  # a network that cannot be built at all fails again where its values are needed
        return None
