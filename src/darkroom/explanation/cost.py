"""What a model computes for an image: at which size, and how many values."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from darkroom.explanation.layer_cam import CONVOLUTION


class Cost(TorchFunctionMode):
    """Follows a pass of a model of torch: ``shape`` (channels, height, width) of what its first convolution is given,
    None without one, and ``values``, how many numbers its functions return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shape: tuple[int, ...] | None = None
        self.values = 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.values += prod(found.shape)
            if self.shape is None and getattr(function, "__name__", "").partition(".")[0] == CONVOLUTION:
                self.shape = tuple(args[0].shape[1:])
        return found


@torch.no_grad()
def cost_of(model: Callable[[Tensor], Tensor], image: Tensor) -> Cost:
    """The cost of ``image`` uint8 [1, C, H, W]. A runtime other than torch shows nothing of it."""
    cost = Cost()
    with cost:
        model(image)
    return cost
