"""Heat maps from the inside of a convolutional network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from darkroom.explanation.score import TINY, log_odds

# Pixels a side. Larger maps of photographs show edges, whatever the class.
FINEST = 28
WINDOW = 3
CONVOLUTION = "conv2d"
# Functions whose result may have another size than their argument, and is still a map of the image.
RESIZING = (CONVOLUTION, "max_pool2d", "avg_pool2d")


def layer_cam(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor | None:
    """The evidence for ``labels`` int64 [N] in the uint8 ``images`` [N, C, H, W]: float32 [N, H, W], 0 or more.

    LayerCAM (Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", 2021): at each
    place the sum of the activations, each times its gradient if that is positive. The maps of all sizes up to FINEST
    are added, each with the same mean: the deep layers know what is there, the early ones where. Then each pixel takes
    the mean of the 3x3 pixels around it: a convolution that looks at them may answer the edge of a spot most, a pixel
    beside it.

    ``model`` may be a module or an exported program, in evaluation mode. None if it has no convolutions that look at
    more than a patch each, or gives no gradients.
    """
    with torch.enable_grad(), FeatureMaps() as features:
        score = log_odds(model(images), labels).sum()
        maps = list(features.maps.values())
        if not (maps and score.requires_grad):
            return None
        maps = [each for each in maps if max(each.shape[2:]) <= FINEST] or maps[-1:]
        gradients = torch.autograd.grad(score, maps, allow_unused=True)
    heat = torch.zeros(len(images), *images.shape[2:])
    for activations, gradient in zip(maps, gradients, strict=True):
        if gradient is not None:
            found = (activations.detach().relu() * gradient.relu()).sum(1, keepdim=True).float()
            share = found / found.mean((2, 3), keepdim=True).clamp(min=TINY)
            heat += F.interpolate(share, images.shape[2:], mode="bilinear")[:, 0]
    return F.avg_pool2d(heat, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)


class FeatureMaps(TorchFunctionMode):
    """Collects the last feature map of each size while a model runs: ``maps`` holds float [N, C, h, w] by (h, w).

    As a mode of torch's functions it sees the same in a module and in an exported program, which has no layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[tuple[int, ...], Tensor] = {}
        self._sizes: set[tuple[int, ...]] = set()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if not (isinstance(found, Tensor) and found.ndim == 4 and found.is_floating_point() and is_grad_enabled()):
            return found
        name = getattr(function, "__name__", "").partition(".")[0]
        size = tuple(found.shape[2:])
        if name == CONVOLUTION and not found.requires_grad:
            found = found.detach().requires_grad_().clone()
        if name in RESIZING and max(size) > 1 and (self._sizes or (name == CONVOLUTION and _overlaps(args, found))):
            self._sizes.add(size)
        if size in self._sizes:
            self.maps[size] = found
        return found


def _overlaps(args: tuple[Any, ...], found: Tensor) -> bool:
    """Whether the windows of a convolution overlap. Those of a transformer's first layer cut the image into patches."""
    images, weight = args[:2]
    side = int(weight.shape[-1])
    return side > 1 and found.shape[-1] * side > images.shape[-1]
