"""The registered model takes raw pixels: normalization is part of it."""

import pytest
import torch
from torch import nn
from torchvision.transforms.v2.functional import normalize

from darkroom.config.settings import Model
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.network import Network
from darkroom.models.registry import architectures


class Curious(Network):
    """Keeps the images that it is initialized with, and a weight that it sets by them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.images = torch.empty(0)

    def initialize(self, images: torch.Tensor) -> None:
        self.images = images
        self.weight += 1


def pixels(shape: tuple[int, int, int], count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_sees_pixels_normalized_as_torchvision_does(make_card, channels: int) -> None:
    card = make_card((channels, 5, 4))
    images = pixels(card.shape)

    seen = Classifier(nn.Identity(), card.mean, card.std)(images)

    expected = normalize(images / 255, list(card.mean), list(card.std))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_bytes_become_float32_logits_of_each_class(make_card, small_model: Model, small_side: int) -> None:
    card = make_card((3, small_side, small_side), classes=7)

    logits = build_classifier(small_model, card)(pixels(card.shape))

    assert (logits.shape, logits.dtype) == ((6, 7), torch.float32)


def test_logits_are_float32_also_in_half_precision(make_card) -> None:
    card = make_card()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = build_classifier(Model(name="mlp"), card)(pixels(card.shape))

    assert logits.dtype == torch.float32


def test_the_normalization_travels_with_the_weights(make_card) -> None:
    classifier = build_classifier(Model(name="mlp"), make_card())

    assert {"scale", "shift"} <= set(classifier.state_dict())
    assert {"scale", "shift"}.isdisjoint(dict(classifier.named_parameters()))


def test_the_order_in_memory_does_not_change_the_logits(make_card, small_model: Model, small_side: int) -> None:
    card = make_card((3, small_side, small_side))
    torch.manual_seed(0)
    classifier = build_classifier(small_model, card).eval()
    images = pixels(card.shape)

    expected = classifier.to(memory_format=torch.contiguous_format)(images)
    found = classifier.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_kernels_of_convolutions_lie_channels_last(make_card, small_model: Model, small_side: int) -> None:
    classifier = build_classifier(small_model, make_card((3, small_side, small_side)))

    kernels = [value for value in classifier.parameters() if value.ndim == 4]
    assert bool(kernels) == architectures()[small_model.name].channels_last
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_is_initialized_with_bytes_normalized_as_it_will_see_them(make_card, channels: int) -> None:
    card = make_card((channels, 5, 4))
    images = pixels(card.shape)
    network = Curious()

    Classifier(network, card.mean, card.std).initialize(images)

    expected = normalize(images / 255, list(card.mean), list(card.std))
    torch.testing.assert_close(network.images, expected, rtol=0, atol=1e-5)


def test_setting_weights_before_the_training_is_no_part_of_any_gradient(make_card) -> None:
    card = make_card((3, 5, 4))
    network = Curious()

    # In place, on a leaf that wants a gradient: torch allows that only where none is recorded.
    Classifier(network, card.mean, card.std).initialize(pixels(card.shape))

    assert network.weight.item() == 1
    assert network.weight.is_leaf


@pytest.mark.parametrize("name", ["mlp", "simple-cnn", "resnet", "wide-resnet"])
def test_a_plain_network_starts_as_chance_has_made_it(make_card, name: str) -> None:
    card = make_card((3, 9, 9))
    classifier = build_classifier(Model(name=name), card)
    before = {key: value.clone() for key, value in classifier.state_dict().items()}

    classifier.initialize(pixels(card.shape))

    assert classifier.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
