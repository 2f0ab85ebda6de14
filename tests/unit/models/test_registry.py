"""Every registered architecture keeps the registry's promises."""

from collections.abc import Callable
from itertools import product
from typing import get_args

import pytest
import torch
from torch import nn

from darkroom.config.settings import Model
from darkroom.errors import ModelError
from darkroom.models.architecture import Shape, register
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.models.registry import architectures, build, resolve, without_effect

NAMES = sorted(architectures())
DENSE = [name for name in NAMES if "hidden" in architectures()[name].defaults]


@pytest.fixture
def make_classifier(make_card) -> Callable[..., Classifier]:
    """A classifier of random weights: behind the registry's networks stands what widens and normalizes images."""

    def make(model: Model, shape: Shape, classes: int, *, seed: int = 0) -> Classifier:
        torch.manual_seed(seed)
        return build_classifier(model, make_card(shape, classes))

    return make


def noise(shape: Shape, count: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def idle(classifier: nn.Module) -> list[str]:
    """The parameters that no gradient has reached."""
    return [key for key, value in classifier.named_parameters() if value.grad is None or not value.grad.any()]


def test_every_architecture_is_swept(small_models: list[Model]) -> None:
    assert sorted({model.name for model in small_models}) == NAMES


# Of all eight combinations four hold every pair.
PAIRS = [(1, 0, 2), (1, 5, 10), (3, 0, 10), (3, 5, 2)]
OTHERS = [(1, 0, 10), (1, 5, 2), (3, 0, 2), (3, 5, 10)]


@pytest.mark.parametrize(
    ("channels", "longer", "classes"), [*PAIRS, *(pytest.param(*other, marks=pytest.mark.long) for other in OTHERS)]
)
def test_images_become_finite_logits_and_every_parameter_learns(
    make_classifier, small_model: Model, small_side: int, channels: int, longer: int, classes: int
) -> None:
    shape = (channels, small_side, small_side + longer)
    classifier = make_classifier(small_model, shape, classes)

    logits = classifier(noise(shape))
    logits.square().mean().backward()

    assert logits.shape == (8, classes)
    assert logits.isfinite().all()
    # A ReLU behind the last layer would leave zeros.
    assert (logits != 0).all()
    assert idle(classifier) == []


def test_saved_weights_make_another_network_the_same(make_classifier, small_model: Model, small_side: int) -> None:
    shape = (3, small_side + 1, small_side)
    images = noise(shape)
    classifier = make_classifier(small_model, shape, 4)
    # What a training step leaves behind is not in the parameters alone.
    classifier(images)
    classifier.eval()
    other = make_classifier(small_model, shape, 4, seed=1).eval()
    assert not torch.equal(classifier(images), other(images))

    other.load_state_dict(classifier.state_dict())

    assert torch.equal(classifier(images), other(images))


@pytest.mark.parametrize("count", [1, 8])
def test_the_smallest_image_can_be_learned_from_even_alone(make_classifier, small_model: Model, count: int) -> None:
    smallest = architectures()[small_model.name].smallest
    shape = (1, smallest, smallest)
    classifier = make_classifier(small_model, shape, 3)

    logits = classifier(noise(shape, count))
    logits.sum().backward()

    assert logits.shape == (count, 3)
    assert all(parameter.grad.isfinite().all() for parameter in classifier.parameters())


@pytest.mark.parametrize("name", ["resnet", "wide-resnet", "fast-cnn"])
def test_a_pixel_less_would_leave_a_single_image_nothing_to_be_normalized_by(name: str) -> None:
    side = architectures()[name].smallest - 1
    network = architectures()[name].build((1, side, side), 3)

    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        network(torch.zeros(1, 1, side, side))


@pytest.mark.parametrize(("name", "side"), list(product(NAMES, ("height", "width"))))
def test_a_smaller_image_is_refused(name: str, side: str) -> None:
    smallest = architectures()[name].smallest
    height, width = (smallest - 1, 32) if side == "height" else (32, smallest - 1)

    with pytest.raises(
        ModelError,
        match=rf"^model\.name: {name} takes images of {smallest}x{smallest} pixels or more, these have "
        rf"{height}x{width}; set preprocess\.image_size or choose another model$",
    ):
        build(Model(name=name), (1, height, width), 3)


def test_more_convolutions_than_halvings_are_fine() -> None:
    network = build(Model(name="simple-cnn", filters=(2,) * 8), (1, 4, 5), 3)

    assert network(torch.randn(6, 1, 4, 5)).shape == (6, 3)


@pytest.mark.parametrize("name", DENSE)
def test_a_network_without_hidden_layers_has_one_dense_layer(name: str) -> None:
    network = build(Model(name=name, hidden=()), (1, 8, 8), 3)

    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 1


@pytest.mark.parametrize("name", DENSE)
def test_given_widths_and_dropout_reach_the_layers(name: str) -> None:
    network = build(Model(name=name, hidden=(6, 5), dropout=0.125), (1, 8, 8), 3)

    dense = [module.out_features for module in network.modules() if isinstance(module, nn.Linear)]
    dropout = {module.p for module in network.modules() if isinstance(module, nn.Dropout)}
    assert (dense, dropout) == ([6, 5, 3], {0.125})


def test_given_filters_reach_the_convolutions() -> None:
    network = build(Model(name="simple-cnn", filters=(3, 7)), (1, 8, 8), 3)

    assert [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)] == [3, 7]


def test_the_settings_offer_exactly_the_registered_names() -> None:
    assert sorted(get_args(Model.model_fields["name"].annotation)) == NAMES


def test_every_setting_of_a_model_is_taken_by_some_architecture() -> None:
    taken = {key for architecture in architectures().values() for key in architecture.defaults}

    assert taken == set(Model.model_fields) - {"name"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_given_takes_the_architectures_default(name: str) -> None:
    defaults = architectures()[name].defaults

    assert resolve(Model(name=name)) == defaults
    # Nothing, where it is given, is not the same as nothing given.
    empty = {"dropout": 0.0, "hidden": (), "freeze_epochs": 0}
    assert resolve(Model(name=name, **empty)) == defaults | {key: empty[key] for key in empty.keys() & defaults.keys()}


def test_a_setting_that_the_architecture_does_not_take_is_reported_not_used() -> None:
    settings = Model(name="mlp", filters=(8,), hidden=(4,))

    assert without_effect(settings) == ["filters"]
    assert "filters" not in resolve(settings)
    assert without_effect(Model(name="simple-cnn", filters=(8,), hidden=(4,))) == []


def test_a_name_is_registered_once() -> None:
    with pytest.raises(AssertionError, match="'mlp' registered twice"):
        register("mlp", "another")(lambda shape, classes: nn.Flatten())


def test_relu_behind_pooling_gives_the_numbers_and_gradients_of_relu_before_it() -> None:
    torch.manual_seed(0)
    network = build(Model(name="simple-cnn", filters=(3, 5), hidden=(4,), dropout=0.0), (2, 9, 9), 3).double()
    modules = list(network)
    for place, module in enumerate(modules[:-1]):
        if isinstance(module, nn.MaxPool2d):
            assert isinstance(modules[place + 1], nn.ReLU)
            modules[place : place + 2] = [nn.ReLU(), module]
    textbook = nn.Sequential(*modules)
    images = torch.randn(4, 2, 9, 9, dtype=torch.float64)

    gradients = []
    for each in (network, textbook):
        network.zero_grad()
        each(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])

    torch.testing.assert_close(network(images), textbook(images), rtol=0, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
