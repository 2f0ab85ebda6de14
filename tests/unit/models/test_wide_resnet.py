"""The wide residual networks are those of the paper."""

import pytest
import torch
from torch import nn

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.registry import build


def network(shape: tuple[int, int, int] = (3, 32, 32), **settings: float) -> nn.Sequential:
    made = build(Model(name="wide-resnet", **settings), shape, 10)
    assert isinstance(made, nn.Sequential)
    return made


def blocks(made: nn.Sequential) -> list[nn.Module]:
    return [module for module in made if hasattr(module, "shortcut")]


def parameters(depth: int, widen_factor: int) -> int:
    with torch.device("meta"):
        made = network(depth=depth, widen_factor=widen_factor)
    return sum(value.numel() for value in made.parameters())


# Zagoruyko and Komodakis, table 4.
@pytest.mark.parametrize(
    ("depth", "widen_factor", "millions"),
    [
        (40, 1, 0.6),
        (40, 2, 2.2),
        (40, 4, 8.9),
        (40, 8, 35.7),
        (28, 10, 36.5),
        (28, 12, 52.5),
        (22, 8, 17.2),
        (22, 10, 26.8),
        (16, 8, 11.0),
        (16, 10, 17.1),
    ],
)
def test_it_has_as_many_parameters_as_the_paper_says(depth: int, widen_factor: int, millions: float) -> None:
    assert round(parameters(depth, widen_factor) / 1e6, 1) == millions


def test_28_layers_ten_times_as_wide_have_the_parameters_counted_by_hand() -> None:
    # 3x3 convolutions of the stem and of the three stages' eight each.
    convolutions = 9 * (3 * 16 + 16 * 160 + 7 * 160**2 + 160 * 320 + 7 * 320**2 + 320 * 640 + 7 * 640**2)
    projections = 16 * 160 + 160 * 320 + 320 * 640
    # A scale and a shift for each of a convolution's inputs, but the stem's, and for the head's.
    norms = 2 * ((16 + 7 * 160) + (160 + 7 * 320) + (320 + 7 * 640) + 640)
    head = 640 * 10 + 10

    assert parameters(28, 10) == convolutions + projections + norms + head == 36_479_194


@pytest.mark.parametrize("depth", [10, 16, 28, 40])
def test_as_many_layers_are_convolutions_as_the_depth_says(depth: int) -> None:
    # The paper's 6n + 4 has the stem and the three projections in it, but not the dense layer.
    made = network(depth=depth, widen_factor=2)

    assert sum(isinstance(module, nn.Conv2d) for module in made.modules()) == depth


@pytest.mark.parametrize("depth", [1, 3, 4, 9, 17, 18])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(
        ModelError, match=rf"^model\.depth: wide-resnet has 6n \+ 4 layers \(10, 16, 22, 28, 40\), not {depth}$"
    ):
        network(depth=depth)


def test_the_first_stage_sees_every_pixel_and_each_further_one_a_quarter() -> None:
    made = network(depth=16, widen_factor=1)
    seen: list[tuple[int, int]] = []
    for block in blocks(made):
        block.register_forward_hook(lambda _module, _inputs, output: seen.append((output.shape[1], output.shape[-1])))

    made(torch.randn(2, 3, 32, 32))

    assert seen == [(16, 32)] * 2 + [(32, 16)] * 2 + [(64, 8)] * 2


def test_a_block_whose_convolutions_are_silent_passes_its_input_on_unchanged() -> None:
    block = blocks(network(depth=10, widen_factor=1))[0]
    nn.init.zeros_(block.conv2.weight)
    images = torch.randn(2, 16, 8, 8)

    # Negative numbers too: normalization and ReLU stand before the convolutions, not behind the sum.
    assert torch.equal(block(images), images)


def test_dropout_is_the_last_thing_before_the_second_convolution_of_every_block() -> None:
    made = network(depth=16, widen_factor=1, dropout=0.3)
    seen: list[torch.Tensor] = []
    for block in blocks(made):
        block.dropout.register_forward_hook(lambda _module, _inputs, output: torch.full_like(output, -7))
        block.conv2.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))

    made(torch.randn(2, 3, 16, 16))

    assert len(seen) == 6
    assert all((images == -7).all() for images in seen)
    assert [module.p for module in made.modules() if isinstance(module, nn.Dropout)] == [0.3] * 6


def test_nothing_is_dropped_unless_asked_for() -> None:
    made = network(depth=10, widen_factor=1)
    images = torch.randn(2, 3, 16, 16)

    assert torch.equal(made(images), made(images))


def test_the_convolutions_start_as_he_and_others_draw_them() -> None:
    for layer in network(depth=10, widen_factor=4).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
