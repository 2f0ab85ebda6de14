"""The registered model takes raw pixels: normalisation is part of it."""

import pytest
import torch
from torch import nn
from torchvision.transforms.v2.functional import normalize

from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.registry import architectures
from darkroom.settings import Model

NAMES = sorted(architectures())


def pixels(shape: tuple[int, int, int], count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_sees_pixels_normalised_as_torchvision_does(make_card, channels: int) -> None:
    card = make_card((channels, 5, 4))
    images = pixels(card.shape)

    seen = Classifier(nn.Identity(), card.mean, card.std)(images)

    expected = normalize(images / 255, list(card.mean), list(card.std))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bytes_become_float32_logits_of_each_class(make_card, name: str) -> None:
    card = make_card((3, 8, 8), classes=7)

    logits = build_classifier(Model(name=name), card)(pixels(card.shape))

    assert (logits.shape, logits.dtype) == ((6, 7), torch.float32)


def test_logits_are_float32_also_in_half_precision(make_card) -> None:
    card = make_card()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = build_classifier(Model(name="mlp"), card)(pixels(card.shape))

    assert logits.dtype == torch.float32


def test_the_normalisation_travels_with_the_weights(make_card) -> None:
    classifier = build_classifier(Model(name="mlp"), make_card())

    assert {"scale", "shift"} <= set(classifier.state_dict())
    assert {"scale", "shift"}.isdisjoint(dict(classifier.named_parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_memory_does_not_change_the_logits(make_card, name: str) -> None:
    card = make_card((3, 8, 8))
    torch.manual_seed(0)
    classifier = build_classifier(Model(name=name), card).eval()
    images = pixels(card.shape)

    expected = classifier.to(memory_format=torch.contiguous_format)(images)
    found = classifier.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_convolutions_lie_channels_last(make_card) -> None:
    classifier = build_classifier(Model(name="simple-cnn"), make_card((3, 8, 8)))

    kernels = [value for value in classifier.parameters() if value.ndim == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
