"""Every registered architecture keeps the registry's promises."""

from itertools import product
from typing import get_args

import pytest
import torch
from torch import nn

from darkroom.errors import ModelError
from darkroom.models.registry import Shape, architectures, build, register, resolve, without_effect
from darkroom.settings import Model

NAMES = sorted(architectures())
SWEEP = [
    (name, (channels, height, width), classes)
    for name, channels, (height, width), classes in product(NAMES, (1, 3), ((8, 8), (7, 12)), (2, 10))
]


def logits_of(network: nn.Module, shape: Shape, count: int = 16) -> torch.Tensor:
    return network(torch.randn(count, *shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("name", "shape", "classes"), SWEEP)
def test_images_become_finite_logits_and_every_parameter_learns(name: str, shape: Shape, classes: int) -> None:
    torch.manual_seed(0)
    network = build(Model(name=name), shape, classes)

    logits = logits_of(network, shape)
    logits.square().mean().backward()

    assert logits.shape == (16, classes)
    assert logits.isfinite().all()
    assert (logits < 0).any()
    idle = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_make_another_network_the_same(name: str) -> None:
    shape = (3, 9, 8)
    torch.manual_seed(0)
    network = build(Model(name=name), shape, 4).eval()
    torch.manual_seed(1)
    other = build(Model(name=name), shape, 4).eval()
    assert not torch.equal(logits_of(network, shape), logits_of(other, shape))

    other.load_state_dict(network.state_dict())

    assert torch.equal(logits_of(network, shape), logits_of(other, shape))


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_image_can_be_learned_from(name: str) -> None:
    smallest = architectures()[name].smallest
    shape = (1, smallest, smallest)

    logits = logits_of(build(Model(name=name), shape, 3), shape)

    assert logits.shape == (16, 3)


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
    shape = (1, 4, 5)
    network = build(Model(name="simple-cnn", filters=(2,) * 8), shape, 3)

    assert logits_of(network, shape).shape == (16, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_hidden_layers_has_one_dense_layer(name: str) -> None:
    network = build(Model(name=name, hidden=()), (1, 8, 8), 3)

    assert sum(isinstance(module, nn.Linear) for module in network.modules()) == 1


@pytest.mark.parametrize("name", NAMES)
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
    assert resolve(Model(name=name, dropout=0.0, hidden=())) == defaults | {"dropout": 0.0, "hidden": ()}


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
