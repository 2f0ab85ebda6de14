"""The interface of a backbone: a model with pretrained weights, and how its weights are downloaded."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from darkroom.errors import ModelError


class Backbone(ABC):
    """A model of another library, as ``name`` in model.backbone.

    ``mean`` and ``std`` are those of the pixels, scaled to 0 to 1, that its weights expect, per channel; ``size`` the
    height and width of its images, and ``interpolation`` torch's name of how they are resized. ``parameters`` is how
    many it has with the head that its weights come with, None if that is known only of the model that ``build`` makes.
    """

    name: str
    mean: Sequence[float]
    std: Sequence[float]
    size: tuple[int, int]
    interpolation: str
    parameters: int | None

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """The model with random weights, for images [N, 3, *size] and with a head for ``classes``."""

    @abstractmethod
    def heads(self, model: nn.Module) -> tuple[str, ...]:
        """The names of the layers of ``model`` that give the logits."""

    def without_heads(self, model: nn.Module) -> int:
        """Take the layers that give the logits off ``model``, which then gives what they were given: its features.

        Returns how many features an image has.
        """
        names = self.heads(model)
        # Of dense layers as of convolutions: outputs, inputs, and the rest.
        features = next(model.get_submodule(names[0]).parameters()).shape[1]
        for name in names:
            model.set_submodule(name, nn.Identity())
        return features

    @abstractmethod
    def cached(self) -> Path | None:
        """The file of its weights, if it is on this machine."""

    @abstractmethod
    def fetch(self) -> Path:
        """The file of its weights, downloaded if it is not on this machine. Raises ModelError."""

    def current_name(self, key: str) -> str:
        """The name of a weight that older files call ``key``."""
        return key

    def refusal(self, problem: object, help_: str) -> ModelError:
        """The error message for weights that cannot be downloaded, with what helps."""
        return ModelError(f"model.backbone: the weights of {self.name} cannot be fetched ({problem}); {help_}")


class FileOfUrl:
    """A file in torch.hub's cache, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name

    def fetch(self, backbone: Backbone) -> Path:
        """The file of the weights of ``backbone``. Raises ModelError."""
        if not self.path.is_file():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                digest = self.path.stem.rpartition("-")[2]  # its first digits are part of the file's name
                torch.hub.download_url_to_file(self.url, str(self.path), digest, progress=False)
            except (OSError, RuntimeError) as problem:
                help_ = (
                    f"put {self.path.name} into {self.path.parent}, or name a file with its state_dict in "
                    "model.weights_path"
                )
                raise backbone.refusal(getattr(problem, "reason", problem), help_) from None
        return self.path
