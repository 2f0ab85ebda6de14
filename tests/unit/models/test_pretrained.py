"""Torchvision models as backbones: which can be used, where their heads are, and what images they expect."""

import re

import pytest
import torch
from tests.unit.models.backbones import BACKBONE, FAMILIES, MEAN, SHAPE, STD, images, network, on_meta
from torch import Tensor
from torchvision.transforms.v2.functional import normalize, resize

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.registry import build


def seen(classifier: Classifier, pixels: Tensor) -> Tensor:
    """What reaches torchvision's model of ``pixels``."""
    found: list[Tensor] = []
    hook = classifier.network.model.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        classifier.eval()(pixels)
    hook.remove()
    return found[0]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("resnet19", "did you mean .*'resnet18'"),
        ("vit_b16", "did you mean .*'vit_b_16'"),
        ("?", "choose from: alexnet"),
    ],
)
def test_an_unknown_backbone_is_refused_with_the_nearest_ones(given: str, hint: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.backbone: no model '{re.escape(given)}'; {hint}"):
        network(backbone=given)


@pytest.mark.parametrize(
    "backbone",
    [
        # Auxiliary heads; weights that need a version number; not a classifier of images.
        "googlenet",
        "inception_v3",
        "mnasnet1_0",
        "fcn_resnet50",
        "quantized_resnet18",
        "r3d_18",
    ],
)
def test_a_model_that_cannot_be_fine_tuned_is_refused(backbone: str) -> None:
    with pytest.raises(ModelError, match=rf"^model\.backbone: no model '{backbone}'; (did you mean|choose from)"):
        network(backbone=backbone)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_gives_logits_of_the_classes(backbone: str) -> None:
    made = on_meta(backbone).eval()

    logits = made(torch.empty(2, 3, 20, 30, device=next(made.parameters()).device))

    assert logits.shape == (2, 7)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_head_is_the_layer_that_gives_the_logits(backbone: str) -> None:
    made = on_meta(backbone)

    made.begin_epoch(1)

    learning = [value for value in made.parameters() if value.requires_grad]
    assert 1 <= len(learning) <= 2
    assert all(len(value) == 7 for value in learning)


def test_images_are_normalized_and_resized_as_the_weights_expect(make_card) -> None:
    pixels = images(2, (3, 20, 30))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, 20, 30)))

    found = seen(classifier, pixels)

    expected = normalize(resize(pixels / 255, [224, 224], antialias=True), MEAN, STD)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_larger_images_are_made_smaller_without_aliasing(make_card) -> None:
    # Stripes of one pixel, three to each that is left: picked out singly they would be black or white.
    side = 3 * 224
    pixels = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    pixels[..., ::2] = 255
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, side, side)))

    found = seen(classifier, pixels)[..., 2:-2]

    black, white = (normalize(torch.full_like(found, shade), MEAN, STD) for shade in (0.0, 1.0))
    assert ((found - black) / (white - black) - 0.5).abs().max() < 0.1


def test_images_of_the_expected_size_are_not_touched(make_card) -> None:
    pixels = images(1, (3, 224, 224))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE), make_card((3, 224, 224)))

    found = seen(classifier, pixels)

    torch.testing.assert_close(found, normalize(pixels / 255, MEAN, STD), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [32, 64])
def test_the_size_of_what_the_backbone_is_given_can_be_set(make_card, side: int) -> None:
    pixels = images(2, (3, 64, 64))
    classifier = build_classifier(Model(name="pretrained", backbone=BACKBONE, input_size=side), make_card((3, 64, 64)))
    assert all(module.training for module in classifier.network.modules())

    found = seen(classifier, pixels)

    expected = normalize(resize(pixels / 255, [side, side], antialias=True), MEAN, STD)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "side", "usual"), [("vit_b_16", 96, 224), ("maxvit_t", 100, 224)], ids=["one size", "windows"]
)
def test_a_size_that_the_backbone_does_not_take_is_refused(backbone: str, side: int, usual: int) -> None:
    with pytest.raises(
        ModelError,
        match=rf"^model\.input_size: {backbone} does not take images of {side}x{side} pixels \(.+\); leave it empty "
        rf"for {usual}x{usual}$",
    ):
        build(Model(name="pretrained", backbone=backbone, input_size=side), SHAPE, 2)


@pytest.mark.parametrize(("backbone", "side"), [("efficientnet_b1", 240), ("swin_v2_t", 256), ("vit_h_14", 518)])
def test_every_backbone_has_its_own_size(backbone: str, side: int) -> None:
    made = on_meta(backbone).eval()
    shapes: list[torch.Size] = []
    hook = made.model.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))

    made(torch.empty(1, 3, 32, 32, device="meta"))
    hook.remove()

    assert shapes == [(1, 3, side, side)]


def test_gray_images_are_seen_as_the_same_gray_in_three_channels(make_card) -> None:
    pixels = images(2, (1, 32, 32))
    settings = Model(name="pretrained", backbone=BACKBONE)
    torch.manual_seed(0)
    gray = build_classifier(settings, make_card((1, 32, 32))).eval()
    color = build_classifier(settings, make_card((3, 32, 32))).eval()
    color.load_state_dict(gray.state_dict())

    with torch.no_grad():
        assert torch.equal(gray(pixels), color(pixels.expand(-1, 3, -1, -1)))
