"""The definition of an architecture, and its registration by the function that builds it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

Shape = tuple[int, int, int]
Build = TypeVar("Build", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Architecture:
    """A registered architecture.

    ``build(shape, classes, **settings)`` makes a network that maps normalized float images [N, *shape]
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


registered: dict[str, Architecture] = {}


def register(name: str, about: str, *, smallest: int = 1, channels_last: bool = False) -> Callable[[Build], Build]:
    """Register the decorated build function as the architecture ``name``; see ``Architecture``."""

    def add(build: Build) -> Build:
        assert name not in registered, f"architecture {name!r} registered twice"
        registered[name] = Architecture(name, about, build, smallest, channels_last)
        return build

    return add
