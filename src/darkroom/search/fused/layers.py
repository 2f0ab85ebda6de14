"""Layers that do the work of K layers of K models at once.

The images of the models' batches lie behind each other: [K * N, ...], those of the first model first. Whatever works
image by image, such as ReLU and pooling, is then the same for one model and for K; a layer with weights takes each
model's images through that model's weights. Horizontal fusion: Wang et al., "Horizontally Fused Training Array",
MLSys 2021, who let grouped convolutions and batched products stand for the K of them, as is done here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.models.dropout import STEPS, Dropout


class FusedLayer(nn.Module):
    """Stands for one layer of each model."""

    def forget_gradients(self) -> None:
        """Precedes the first backward pass of a step."""

    def share_gradients(self) -> None:
        """Gives each model's parameters their part of the gradient, after the last backward pass of a step."""


class SequentialFallback(FusedLayer):
    """Each model's layer on that model's images, one after another."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = list(layers)  # a list, so that they are no parts of this one
        self.weights = [weight for layer in layers for weight in layer.parameters()]

    def forward(self, inputs: Tensor) -> Tensor:
        parts = inputs.chunk(len(self.layers))
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)])

    def forget_gradients(self) -> None:
        for weight in self.weights:
            weight.grad = None


class Stacked(FusedLayer):
    """Layers whose parameters lie behind each other in memory: [K, ...]; those of the models are views of it."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(layers)
        self.bias = None
        self._members: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        for name, _ in layers[0].named_parameters(recurse=False):
            members = [layer.get_parameter(name) for layer in layers]
            stack = nn.Parameter(_stack(members))
            for member, part in zip(members, stack.detach(), strict=True):
                member.data = part
                member.grad = None
            setattr(self, name, stack)
            self._members.append((stack, members))

    def forget_gradients(self) -> None:
        for stack, members in self._members:
            stack.requires_grad_(any(member.requires_grad for member in members))
            for member in members:
                member.grad = None

    def share_gradients(self) -> None:
        for stack, members in self._members:
            if not stack.requires_grad:
                continue
            assert stack.grad is not None, "every layer takes part in the loss"
            for member, part in zip(members, stack.grad, strict=True):
                member.grad = part if member.requires_grad else None
            stack.grad = None


class StackedLinear(Stacked):
    """Dense layers as one batched product."""

    def __init__(self, layers: Sequence[nn.Linear], factor: float = 1.0) -> None:
        super().__init__(layers)
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        features = inputs.view(self.count, -1, inputs.shape[-1])
        device = features.device.type
        if torch.is_autocast_enabled(device):
            features = features.to(torch.get_autocast_dtype(device))
        outputs: Tensor = _Linear.apply(features, self.weight, self.bias).flatten(0, 1)
        return outputs if self.factor == 1 else outputs * self.factor


class _Linear(torch.autograd.Function):
    """inputs [K, N, in], weight [K, out, in] and bias [K, out] to [K, N, out], in the dtype of the inputs.

    torch's own derivative of a batched product returns that of the weight transposed: copying it into place takes as
    long as computing it.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        used = weight.to(inputs.dtype)
        ctx.save_for_backward(inputs, used)
        ctx.dtype = weight.dtype
        outputs = torch.bmm(inputs, used.transpose(1, 2))
        return outputs if bias is None else outputs.add_(bias[:, None].to(inputs.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        needs_inputs, _, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if needs_inputs else None,
            torch.bmm(gradient.transpose(1, 2), inputs).to(ctx.dtype),
            gradient.sum(1, dtype=ctx.dtype) if needs_bias else None,
        )


class StackedConv2d(Stacked):
    """Convolutions as one grouped convolution."""

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__(layers)
        self.layers = list(layers)

    def forward(self, images: Tensor) -> Tensor:
        layer = self.layers[0]
        bias = None if self.bias is None else self.bias.flatten()
        outputs = F.conv2d(
            side_by_side(images, self.count), self.weight.flatten(0, 1), bias,
            layer.stride, layer.padding, layer.dilation, layer.groups * self.count,
        )  # fmt: skip
        return one_after_another(outputs, self.count)


class StackedBatchNorm2d(Stacked):
    """Batch normalization: each model's channels are channels of their own, so no model sees another's batch."""

    def __init__(self, layers: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__(layers)
        self.layers = list(layers)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, _stack([layer.get_buffer(name) for layer in layers]))
            for layer, part in zip(layers, self.get_buffer(name), strict=True):
                layer.get_buffer(name).data = part

    def forward(self, images: Tensor) -> Tensor:
        outputs = F.batch_norm(
            side_by_side(images, self.count),
            self.get_buffer("running_mean").flatten(),
            self.get_buffer("running_var").flatten(),
            self.weight.flatten(),
            None if self.bias is None else self.bias.flatten(),
            training=True,
            momentum=self.layers[0].momentum or 0.0,
            eps=self.layers[0].eps,
        )
        for layer in self.layers:
            layer.get_buffer("num_batches_tracked").add_(1)
        return one_after_another(outputs, self.count)


class StackedDropout(FusedLayer):
    """Dropout, each model's with its own probability and the draws that it would make from its own generator."""

    def __init__(self, layers: Sequence[Dropout], generators: Sequence[Generator]) -> None:
        super().__init__()
        steps = torch.tensor([min(round(layer.p * STEPS), STEPS - 1) for layer in layers])[:, None]
        device = generators[0].device
        self.lowest = (steps - STEPS // 2).to(device, torch.int16)
        self.scale = (STEPS / (STEPS - steps).double()).to(device)
        # Where nothing is dropped nothing is drawn.
        self.drawing = [
            (number, generator) for number, generator in enumerate(generators) if round(layers[number].p * STEPS)
        ]

    def forward(self, activations: Tensor) -> Tensor:
        if not self.drawing:
            return activations
        models, device = len(self.lowest), activations.device
        count = activations.numel() // models
        # As Dropout draws on a CPU: four 16-bit numbers at a time.
        words = torch.empty(models, -(-count // 4), dtype=torch.int64, device=device)
        for number, generator in self.drawing:
            words[number].random_(-(1 << 63), None, generator=generator)
        draws = words.view(torch.int16)[:, :count]
        # Straight into the dtype of the activations: a mask of truth values is ten times as slow to convert.
        kept = torch.ge(draws, self.lowest, out=activations.new_empty(draws.shape))
        mask = kept.mul_(self.scale.to(kept.dtype)).view(-1)
        # In the order in which the activations lie in memory: mixing two layouts would be slow.
        strides = torch.empty_like(activations, device="meta").stride()
        return activations * mask.as_strided(activations.shape, strides)


def side_by_side(images: Tensor, count: int) -> Tensor:
    """From [K * N, C, H, W] to [N, K * C, H, W]."""
    return images.view(count, -1, *images.shape[1:]).transpose(0, 1).flatten(1, 2)


def one_after_another(images: Tensor, count: int) -> Tensor:
    """From [N, K * C, H, W] to [K * N, C, H, W]."""
    models = images.view(len(images), count, -1, *images.shape[2:])
    return models.transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """[K, ...], in which each part lies in memory as its tensor did."""
    first = tensors[0]
    if first.ndim == 4 and first.is_contiguous(memory_format=torch.channels_last):
        return torch.stack([tensor.permute(0, 2, 3, 1) for tensor in tensors]).permute(0, 1, 4, 2, 3)
    return torch.stack(list(tensors))
