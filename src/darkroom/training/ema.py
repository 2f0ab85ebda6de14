"""The moving average of a model's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of ``model`` whose weights and buffers follow the model's: ``decay`` of what they were stays each time.

    It begins with the first update. Nothing is read from the device, so that an update can be captured.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.has_begun = False
        # The parameters themselves and not their memory: what trains several models as one moves them.
        pairs = list(zip(_numbers(self.model), _numbers(model), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow the model by one step."""
        averages, weights = [own for own, _ in self._floats], [other for _, other in self._floats]
        if self.has_begun:
            torch._foreach_lerp_(averages, weights, 1 - self.decay)
        else:
            torch._foreach_copy_(averages, weights)
        for own, other in self._counts:
            own.copy_(other)
        self.has_begun = True

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "has_begun": self.has_begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.has_begun = state["has_begun"]


def _numbers(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
