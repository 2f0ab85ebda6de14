"""Each fused layer does what the layers do that it stands for, on any device's path."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from darkroom.models.dropout import Dropout
from darkroom.models.resnet import ScaledLinear
from darkroom.search.fused.layers import (
    FusedLayer,
    SequentialFallback,
    StackedBatchNorm2d,
    StackedConv2d,
    StackedDropout,
    StackedLinear,
    one_after_another,
    side_by_side,
)

MODELS = 3
IMAGES = 4
Build = Callable[[], nn.Module]
# What the layers are, what stands for them, and the shape of an image. The grouped ones are those of GPUs.
CASES: dict[str, tuple[Build, Callable[[list[nn.Module]], FusedLayer], tuple[int, ...]]] = {
    "dense": (lambda: nn.Linear(5, 2), StackedLinear, (5,)),
    "dense without bias": (lambda: nn.Linear(5, 2, bias=False), StackedLinear, (5,)),
    "scaled": (lambda: ScaledLinear(5, 2, 0.125), lambda layers: StackedLinear(layers, 0.125), (5,)),
    "convolution": (lambda: nn.Conv2d(2, 3, 3, padding=1), StackedConv2d, (2, 5, 6)),
    "convolution with stride": (lambda: nn.Conv2d(2, 3, 3, stride=2, bias=False), StackedConv2d, (2, 7, 7)),
    "convolution in groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), StackedConv2d, (4, 5, 5)),
    "normalization": (lambda: nn.BatchNorm2d(3), StackedBatchNorm2d, (3, 4, 4)),
    "normalization with a momentum": (lambda: nn.BatchNorm2d(3, momentum=0.4), StackedBatchNorm2d, (3, 4, 4)),
    "in turn": (lambda: nn.Conv2d(2, 3, 3, padding=1), SequentialFallback, (2, 5, 6)),
}


def layers_of(build: Build) -> list[nn.Module]:
    torch.manual_seed(0)
    return [build().double() for _ in range(MODELS)]


def trained(forward: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs, and the gradient of a loss at the inputs."""
    inputs = inputs.clone().requires_grad_()
    outputs = forward(inputs)
    (outputs * torch.arange(outputs.numel()).view_as(outputs).cos()).sum().backward()
    assert inputs.grad is not None
    return outputs.detach(), inputs.grad


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels last"])
@pytest.mark.parametrize("case", CASES)
def test_a_fused_layer_stands_for_its_layers(case: str, layout: torch.memory_format) -> None:
    build, fused, shape = CASES[case]
    layers, expected = layers_of(build), layers_of(build)
    inputs = torch.randn(MODELS * IMAGES, *shape, dtype=torch.float64)
    if len(shape) == 3:
        inputs = inputs.to(memory_format=layout)
        layers = [layer.to(memory_format=layout) for layer in layers]

    fused_layer = fused(layers)
    for _ in range(2):
        fused_layer.forget_gradients()
        outputs, gradient = trained(fused_layer, inputs)
        fused_layer.share_gradients()
        for layer in expected:
            layer.zero_grad()
        wanted, wanted_gradient = trained(
            lambda images: torch.cat([layer(part) for layer, part in zip(expected, images.chunk(MODELS), strict=True)]),
            inputs,
        )

    torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-12)
    for layer, other in zip(layers, expected, strict=True):
        for name, value in other.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[name], value, rtol=0, atol=1e-12)
        for found, parameter in zip(layer.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found.grad, parameter.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frozen", [{0, 1, 2}, {1}], ids=["all", "one"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_frozen_gets_no_gradient(case: str, frozen: set[int]) -> None:
    build, fused, shape = CASES[case]
    layers = layers_of(build)
    for number in frozen:
        layers[number].get_parameter("weight").requires_grad_(False)
    inputs = torch.randn(MODELS * IMAGES, *shape, dtype=torch.float64)
    fused_layer = fused(layers)

    for _ in range(2):
        fused_layer.forget_gradients()
        trained(fused_layer, inputs)
        fused_layer.share_gradients()

    assert {number for number in range(MODELS) if layers[number].get_parameter("weight").grad is None} == frozen
    assert all(layer.grad is not None for each in layers for name, layer in each.named_parameters() if name == "bias")


@pytest.mark.parametrize("case", [name for name in CASES if name != "in turn"])
def test_what_changes_a_models_weights_changes_the_fused_layer(case: str) -> None:
    build, fused, shape = CASES[case]
    layers = layers_of(build)
    inputs = torch.randn(MODELS * IMAGES, *shape, dtype=torch.float64)
    fused_layer = fused(layers)
    before = fused_layer(inputs).detach().clone()

    with torch.no_grad():
        for parameter in layers[1].parameters():
            parameter.add_(1)

    changed = (fused_layer(inputs) - before).abs().flatten(1).amax(1).view(MODELS, IMAGES).amax(1) > 0
    assert changed.tolist() == [False, True, False]


def test_dropout_draws_for_each_model_what_it_would_draw_alone() -> None:
    layers = [Dropout(0.5), Dropout(0.0), Dropout(0.2)]
    inputs = torch.randn(3 * 8, 6)
    expected = []
    for seed, (layer, part) in enumerate(zip(layers, inputs.chunk(3), strict=True)):
        torch.manual_seed(seed)
        expected.append(layer(part))

    found = StackedDropout(layers, [torch.Generator().manual_seed(seed) for seed in range(3)])(inputs)

    assert torch.equal(found, torch.cat(expected))


def test_dropout_that_no_model_has_does_nothing() -> None:
    inputs = torch.randn(4, 6)

    assert StackedDropout([Dropout(0.0), Dropout(0.0)], [torch.Generator(), torch.Generator()])(inputs) is inputs


def test_images_of_models_side_by_side_are_channels() -> None:
    images = torch.arange(2 * 3 * 2 * 4 * 5).view(6, 2, 4, 5)

    beside = side_by_side(images, 2)

    assert torch.equal(beside, torch.cat([images[:3], images[3:]], 1))
    assert torch.equal(one_after_another(beside, 2), images)
