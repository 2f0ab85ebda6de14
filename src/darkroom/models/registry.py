"""Architectures by name, each registered by the function that builds it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from darkroom.errors import ModelError
from darkroom.settings import Model

Shape = tuple[int, int, int]
Build = TypeVar("Build", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Architecture:
    """A registered architecture.

    ``build(shape, classes, **settings)`` makes a network that maps normalised float images [N, *shape]
    to logits [N, classes]; its keyword arguments are the settings it takes, with its own defaults. A
    ``Network`` that expects channels of its own is given those.
    ``smallest`` is the smallest height and width it can take; ``channels_last`` whether that memory
    layout suits it.
    """

    name: str
    about: str
    build: Callable[..., nn.Module]
    smallest: int
    channels_last: bool

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings it takes, with their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


_registry: dict[str, Architecture] = {}


def register(name: str, about: str, *, smallest: int = 1, channels_last: bool = False) -> Callable[[Build], Build]:
    """Register the decorated build function as the architecture ``name``; see ``Architecture``."""

    def add(build: Build) -> Build:
        assert name not in _registry, f"architecture {name!r} registered twice"
        _registry[name] = Architecture(name, about, build, smallest, channels_last)
        return build

    return add


def architectures() -> dict[str, Architecture]:
    """All registered architectures by name."""
    return dict(_registry)


def resolve(settings: Model) -> dict[str, Any]:
    """The settings that the architecture will be built with: those given, its own defaults for the rest."""
    given = settings.model_dump(exclude={"name"})
    defaults = _registry[settings.name].defaults
    return {key: default if given[key] is None else given[key] for key, default in defaults.items()}


def without_effect(settings: Model) -> list[str]:
    """The settings that are given although the architecture does not take them."""
    given = settings.model_dump(exclude={"name"}, exclude_none=True)
    return [key for key in given if key not in _registry[settings.name].defaults]


def build(settings: Model, shape: Shape, classes: int) -> nn.Module:
    """Build the network for images of ``shape`` (channels, height, width).

    Raises ModelError if the images are too small for the architecture.
    """
    architecture = _registry[settings.name]
    if min(shape[1:]) < architecture.smallest:
        raise ModelError(
            f"model.name: {settings.name} takes images of {architecture.smallest}x{architecture.smallest} pixels or "
            f"more, these have {shape[1]}x{shape[2]}; set preprocess.image_size or choose another model"
        )
    return architecture.build(shape, classes, **resolve(settings))
