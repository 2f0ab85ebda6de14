"""LayerCAM: what the layers of a convolutional network say of a class, in a module and in an exported program."""

import pytest
import torch
from torch import Tensor, nn

from darkroom.explanation.layer_cam import FeatureMaps, layer_cam
from darkroom.explanation.score import log_odds


def noise(count: int, shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


class Small(nn.Module):
    """Two sizes of feature maps, 12 and 6, then dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.deep(self.early(images / 255)).mean((2, 3)))


def even(heat: Tensor) -> Tensor:
    """Maps [N, 1, h, w] with the mean 1."""
    return heat / heat.mean((2, 3), keepdim=True)


def around(heat: Tensor) -> Tensor:
    """The mean of the 3x3 pixels around each pixel of maps [N, 1, H, W], as far as there are any: [N, H, W]."""
    height, width = heat.shape[2:]
    means = [
        heat[:, 0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].mean((1, 2))
        for row in range(height)
        for column in range(width)
    ]
    return torch.stack(means, 1).view(-1, height, width)


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def test_the_last_map_of_each_size_is_taken(network: Small) -> None:
    images = noise(2, (1, 12, 12))

    with FeatureMaps() as found:
        network(images)

    early = network.early(images / 255)
    assert list(found.maps) == [(12, 12), (6, 6)]
    torch.testing.assert_close(found.maps[12, 12], early)
    torch.testing.assert_close(found.maps[6, 6], network.deep(early))


def test_the_map_is_that_of_the_paper_by_hand(network: Small) -> None:
    images, labels = noise(2, (1, 12, 12)), torch.tensor([0, 2])
    early = network.early(images / 255).detach().requires_grad_()
    deep = network.deep(early)
    slopes = torch.autograd.grad(log_odds(network.head(deep.mean((2, 3))), labels).sum(), (deep, early))
    small, large = (
        even((activations * slope.relu()).sum(1, keepdim=True).detach())
        for activations, slope in zip((deep, early), slopes, strict=True)
    )
    enlarged = nn.functional.interpolate(small, (12, 12), mode="bilinear")

    torch.testing.assert_close(layer_cam(network, images, labels), around(enlarged + large))


def test_of_large_images_the_maps_are_those_that_are_not_too_fine(network: Small) -> None:
    """Of 56 and 28 a side the latter, and of 80 and 40 the deepest."""
    for side in (56, 80):
        images, label = noise(1, (1, side, side)), torch.tensor([1])
        deep = network.deep(network.early(images / 255)).detach().requires_grad_()
        (slope,) = torch.autograd.grad(log_odds(network.head(deep.mean((2, 3))), label).sum(), deep)
        expected = even((deep * slope.relu()).sum(1, keepdim=True).detach())

        found = layer_cam(network, images, label)
        torch.testing.assert_close(found, around(nn.functional.interpolate(expected, (side, side), mode="bilinear")))


def test_frozen_weights_and_no_grad_outside_change_nothing(network: Small) -> None:
    images, labels = noise(2, (1, 12, 12)), torch.tensor([0, 2])
    expected = layer_cam(network, images, labels)
    network.requires_grad_(False)

    with torch.no_grad():
        torch.testing.assert_close(layer_cam(network, images, labels), expected)


def test_an_exported_program_has_the_map_of_its_module(network: Small) -> None:
    images, labels = noise(2, (1, 12, 12)), torch.tensor([0, 2])
    program = torch.export.export(network, (images,))

    torch.testing.assert_close(layer_cam(program.module(), images, labels), layer_cam(network, images, labels))


def test_weights_get_no_gradient(network: Small) -> None:
    layer_cam(network, noise(1, (1, 12, 12)), torch.tensor([0]))

    assert all(each.grad is None for each in network.parameters())


class Patches(nn.Module):
    """A transformer's beginning: patches as words, which then look at each other."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(images / 255).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(144, 3)),
        Patches(),
        # Convolutions that look at one pixel each.
        nn.Sequential(nn.Conv2d(1, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["dense", "transformer", "pixels"],
)
def test_a_model_that_has_no_maps_of_the_image_gives_none(model: nn.Module) -> None:
    assert layer_cam(lambda images: model.eval()(images.float()), noise(1, (1, 12, 12)), torch.tensor([0])) is None


def test_what_runs_outside_of_torch_gives_none() -> None:
    def infer(images: Tensor) -> Tensor:
        return torch.from_numpy(images.numpy().reshape(len(images), -1)[:, :3].astype("float32"))

    assert layer_cam(infer, noise(1, (1, 12, 12)), torch.tensor([0])) is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_network_that_computes_without_gradients_gives_none(network: Small, mode) -> None:
    assert layer_cam(mode()(network.forward), noise(1, (1, 12, 12)), torch.tensor([0])) is None


def test_a_network_whose_logits_leave_torch_gives_none(network: Small) -> None:
    def infer(images: Tensor) -> Tensor:
        return torch.from_numpy(network(images).detach().numpy())

    assert layer_cam(infer, noise(1, (1, 12, 12)), torch.tensor([0])) is None


def test_captum_has_the_same_map_of_a_layer(network: Small) -> None:
    from captum import attr

    images, labels = noise(2, (1, 12, 12)), torch.tensor([0, 2])

    def odds(pixels: Tensor) -> Tensor:
        return log_odds(network(pixels), labels)

    small, large = (
        even(attr.LayerGradientXActivation(odds, layer).attribute(images).relu().sum(1, keepdim=True).detach())
        for layer in (network.deep, network.early)
    )
    enlarged = nn.functional.interpolate(small, (12, 12), mode="bilinear")
    torch.testing.assert_close(layer_cam(network, images, labels), around(enlarged + large))
