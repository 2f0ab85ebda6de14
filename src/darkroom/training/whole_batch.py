"""Layers that look at a whole batch, or draw for it, in a process that computes a part of it.

torch's own SyncBatchNorm works on GPUs only, and would have to replace layers of other libraries that are more than
batch normalization. So the functions behind the layers are replaced, for as long as a forward pass lasts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from darkroom.models.dropout import draw
from darkroom.training.ranks import Ranks


class WholeBatch(TorchFunctionMode):
    """Inside, a model in training mode maps this process' part of a batch to what the whole batch would give it.

    All processes of ``ranks`` have parts of one size, in their order. Batch normalization takes its statistics from all
    of them (Ioffe and Szegedy, 2015), and so do its gradients. Dropout and the dropping of whole layers draw for the
    whole batch, so that torch's generators stay alike in all processes. What is drawn inside a fused kernel, as the
    dropout of attention, is drawn for the part alone, with the same numbers in each process.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for_whole = _FOR_WHOLE.get(function, function)
        if for_whole is function:
            return function(*args, **(kwargs or {}))
        return for_whole(self.ranks, *args, **(kwargs or {}))


def _batch_norm(
    ranks: Ranks,
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch.nn.functional.batch_norm."""
    if not training:
        return F.batch_norm(images, running_mean, running_var, weight, bias, training, momentum, eps)
    normalized: Tensor = _BatchNorm.apply(images, weight, bias, running_mean, running_var, momentum, eps, ranks.count)
    return normalized


class _BatchNorm(torch.autograd.Function):
    """Batch normalization of images [N, C, ...] of which each of ``ranks`` processes has N."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        ranks: int,
    ) -> Tensor:
        channels, shape, other = images.shape[1], _along_channels(images), [0, *range(2, images.ndim)]
        # In float32 at least: sums of many numbers in 16 bits are worth little.
        exact = images.to(torch.promote_types(images.dtype, torch.float32))
        own_mean = exact.mean(other)
        # A sixth of the time of torch.var_mean, measured on one core with channels last.
        own_variance = (exact - own_mean.view(shape)).square_().mean(other)
        own = torch.stack([own_variance, own_mean])
        gathered = own.new_empty(ranks * 2, channels)
        dist.all_gather_into_tensor(gathered, own)
        variances, means = gathered.view(ranks, 2, channels).unbind(1)
        mean = means.mean(0)
        # Not the mean of the squares less the square of the mean: their difference would have few digits left.
        variance = (variances + (means - mean).square()).mean(0)
        count = ranks * images.numel() // channels
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        return F.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient with fixed statistics, and what comes through the statistics: a line in the images."""
        images, weight, mean, variance = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        of_images, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        totals = torch.stack([of_weight, of_bias])
        dist.all_reduce(totals)
        total_weight, total_bias = totals
        factor = scale / ctx.count if weight is None else scale * weight / ctx.count
        slope = -factor * total_weight * scale
        offset = -factor * total_bias - slope * mean
        shape = _along_channels(images)
        of_images = (of_images + torch.addcmul(offset.view(shape), images, slope.view(shape))).to(images.dtype)
        if weight is None:
            return of_images, None, None, None, None, None, None, None
        return of_images, of_weight, of_bias, None, None, None, None, None


def _along_channels(images: Tensor) -> list[int]:
    """The shape of a number for each channel that is one for all pixels of the images."""
    return [1, -1] + [1] * (images.ndim - 2)


def _draw(ranks: Ranks, activations: Tensor) -> Tensor:
    """As darkroom.models.dropout.draw."""
    count = activations.numel()
    whole = draw(activations.new_empty(1, device="meta").expand(count * ranks.count))
    return whole[count * ranks.rank : count * (ranks.rank + 1)]


def _dropout(ranks: Ranks, activations: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As torch.nn.functional.dropout."""
    if not training or not p:
        return activations
    kept = F.dropout(_for_whole(ranks, activations).fill_(1), p)[_own(ranks, activations)]
    return activations.mul_(kept) if inplace else activations * kept


def _bernoulli(ranks: Ranks, kept: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """As torch.Tensor.bernoulli_, by which libraries drop layers for single images."""
    return kept.copy_(_for_whole(ranks, kept).bernoulli_(*args, **kwargs)[_own(ranks, kept)])


def _for_whole(ranks: Ranks, part: Tensor) -> Tensor:
    """A tensor for the whole batch, in the layout of ``part``."""
    channels_last = part.ndim == 4 and not part.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (len(part) * ranks.count, *part.shape[1:])
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)


def _own(ranks: Ranks, part: Tensor) -> slice:
    return slice(len(part) * ranks.rank, len(part) * (ranks.rank + 1))


_FOR_WHOLE: dict[Callable[..., Any], Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    F.dropout: _dropout,
    torch.Tensor.bernoulli_: _bernoulli,
    draw: _draw,
}
