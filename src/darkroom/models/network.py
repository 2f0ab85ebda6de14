"""Optional hooks of an architecture, besides mapping images to logits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.models.weights import named_like


class Network(nn.Module):
    """An architecture with hooks for its training. An architecture without hooks is a plain module.

    ``pixel_mean`` and ``pixel_std`` are what it expects its images to be normalized by, per channel, if
    not by the dataset's own mean and deviation; gray images are expanded to as many channels.
    """

    pixel_mean: Sequence[float] | None = None
    pixel_std: Sequence[float] | None = None

    def initialize(self, images: Tensor) -> None:
        """Set weights that are not random: from a file, or from normalized training ``images`` float [n, C, H, W]."""

    def fetch(self) -> Path | None:
        """The file of the weights that ``initialize`` sets, downloaded if it is missing; None if it needs none.

        Raises ModelError.
        """
        return None

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the layers that give the logits, one output per row; if empty, the last layer with weights."""
        return ()

    @property
    def added(self) -> tuple[str, ...]:
        """The names of the parts that weights of another library need not have."""
        return ()

    def named(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``weights`` of a file under this network's names."""
        return named_like(weights, self.state_dict())

    def begin_epoch(self, epoch: int) -> None:
        """Called in training mode before each epoch, counted from 1."""

    def lr_factors(self) -> dict[nn.Parameter, float]:
        """Factors of the learning rate of some parameters; all others have the factor 1."""
        return {}


def heads_of(model: nn.Module) -> tuple[str, ...]:
    """The prefixes of the names of the weights that give the logits, from the network inside ``model``, if any."""
    for name, module in model.named_modules():
        if isinstance(module, Network) and module.heads:
            return tuple(f"{name}.{head}.".removeprefix(".") for head in module.heads)
    return (f"{last_layer(model)}.",)


def last_layer(network: nn.Module) -> str:
    """The name of the last layer that has weights of its own."""
    *_, last = (name for name, _ in network.named_parameters())
    return last.rpartition(".")[0]


@torch.no_grad()
def zero_last_layer(network: nn.Module) -> None:
    """Set the layer of ``network`` that gives the logits to 0: at first all classes are equally likely.

    On features that are good already, random weights are noise that a short training on few images does not remove.
    Vision transformers are fine-tuned from such a head (Dosovitskiy et al., "An image is worth 16x16 words", 2021).
    """
    for parameter in network.get_submodule(last_layer(network)).parameters():
        parameter.zero_()


@contextmanager
def record_features(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what the layer of ``model`` that gives the logits is given: float16 [n, D] on the CPU for n images."""
    features: list[Tensor] = []
    head = model.get_submodule(heads_of(model)[0].rstrip("."))
    hook = head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0].flatten(1).half().cpu()))
    try:
        yield features
    finally:
        hook.remove()


def networks(model: nn.Module) -> Iterator[Network]:
    """The networks inside ``model`` that have hooks for training."""
    return (module for module in model.modules() if isinstance(module, Network))
