"""The residual networks are those of the papers, but for what small images need otherwise."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, ResNet34_Weights, WeightsEnum
from torchvision.models.resnet import BasicBlock

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.registry import build

# Of the ResNet-18 for CIFAR-10 that is measured everywhere, as in kuangliu/pytorch-cifar.
PUBLISHED = 11_173_962


def network(shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **settings: int) -> nn.Sequential:
    made = build(Model(name="resnet", **settings), shape, classes)
    assert isinstance(made, nn.Sequential)
    return made


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def counted(width: int, blocks: tuple[int, ...], channels: int, classes: int) -> int:
    """Parameters by the paper: convolutions without biases, a scale and a shift for each of their filters."""

    def convolution(size: int, inputs: int, outputs: int) -> int:
        return size**2 * inputs * outputs + 2 * outputs

    total = convolution(3, channels, width)
    inputs = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        total += convolution(3, inputs, outputs) + (2 * count - 1) * convolution(3, outputs, outputs)
        total += convolution(1, inputs, outputs) if stage else 0
        inputs = outputs
    return total + inputs * classes + classes


def test_by_default_it_is_the_published_network_of_18_layers() -> None:
    assert parameters(network()) == PUBLISHED


@pytest.mark.parametrize(("depth", "published"), [(18, ResNet18_Weights), (34, ResNet34_Weights)])
def test_it_is_the_imagenet_network_but_for_the_stem_and_the_head(depth: int, published: type[WeightsEnum]) -> None:
    stem, head = 64 * 3 * 7**2, 512 * 1000 + 1000

    with torch.device("meta"):
        made = network(depth=depth)

    own_stem, own_head = 64 * 3 * 3**2, 512 * 10 + 10
    assert parameters(made) == published.DEFAULT.meta["num_params"] - stem - head + own_stem + own_head


@pytest.mark.parametrize(
    ("depth", "blocks", "width", "channels", "classes"),
    [
        (10, (1, 1, 1, 1), 16, 1, 3),
        (18, (2, 2, 2, 2), 64, 3, 10),
        (18, (2, 2, 2, 2), 7, 1, 100),
        (34, (3, 4, 6, 3), 8, 3, 10),
    ],
)
def test_it_has_the_parameters_that_the_paper_counts(
    depth: int, blocks: tuple[int, ...], width: int, channels: int, classes: int
) -> None:
    made = network((channels, 32, 32), classes, depth=depth, width=width)

    assert parameters(made) == counted(width, blocks, channels, classes)


@pytest.mark.parametrize("depth", [9, 10, 18, 34])
def test_as_many_layers_have_weights_as_the_depth_says_shortcuts_apart(depth: int) -> None:
    made = network(depth=depth, width=2)

    layers = [name for name, module in made.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([name for name in layers if "downsample" not in name]) == depth


@pytest.mark.parametrize("depth", [9, 10, 18, 34])
@pytest.mark.parametrize("width", [1, 6])
def test_the_filters_double_from_the_width_to_eight_times_as_many(depth: int, width: int) -> None:
    made = network(depth=depth, width=width)

    filters = [module.out_channels for module in made.modules() if isinstance(module, nn.Conv2d)]
    head = [module.in_features for module in made.modules() if isinstance(module, nn.Linear)]
    assert filters == sorted(filters)
    assert list(dict.fromkeys(filters)) == [width, 2 * width, 4 * width, 8 * width]
    assert head == [8 * width]


def sides(made: nn.Module, *kinds: type[nn.Module]) -> list[int]:
    """The sides that an image of 32 pixels has had behind modules of ``kinds``."""
    seen: dict[int, None] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: seen.setdefault(output.shape[-1]))
        for module in made.modules()
        if isinstance(module, kinds)
    ]
    made(torch.randn(2, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return list(seen)


@pytest.mark.parametrize("depth", [10, 18, 34])
def test_the_first_stage_sees_every_pixel_and_each_further_one_a_quarter(depth: int) -> None:
    assert sides(network(depth=depth, width=2), BasicBlock) == [32, 16, 8, 4]


def test_nine_layers_halve_the_image_three_times() -> None:
    assert sides(network(depth=9, width=2), nn.BatchNorm2d) == [32, 16, 8, 4]


@pytest.mark.parametrize("name", ["residual1", "residual3"])
def test_nine_layers_have_shortcuts_around_two_convolutions_each(name: str) -> None:
    block = network(depth=9, width=2).get_submodule(name)
    *_, last = (module for module in block.modules() if isinstance(module, nn.BatchNorm2d))
    nn.init.zeros_(last.weight)
    images = torch.randn(2, last.num_features, 6, 6)

    assert sum(isinstance(module, nn.Conv2d) for module in block.modules()) == 2
    assert torch.equal(block(images), images)


def test_nine_layers_end_in_logits_of_an_eighth_without_bias() -> None:
    head = network(depth=9, width=2).get_submodule("head")
    features = torch.randn(4, 16)

    torch.testing.assert_close(head(features), F.linear(features, head.weight) / 8)


def test_the_convolutions_start_as_he_and_others_draw_them() -> None:
    for layer in network(depth=10, width=32).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("depth", [1, 8, 11, 20, 50])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ModelError, match=rf"^model\.depth: resnet comes with 9, 10, 18, 34 layers, not with {depth}$"):
        network(depth=depth)
