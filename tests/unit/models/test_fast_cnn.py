"""The first layer whitens patches and never learns; the others start by passing on what they see."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.config.settings import Model, Train
from darkroom.errors import ModelError
from darkroom.models.fast_cnn import EPSILON
from darkroom.models.network import Network
from darkroom.models.registry import build
from darkroom.training.optimizers import build_optimizer

FILTERS = (32, 40, 48)


def network(channels: int = 3, **settings: object) -> Network:
    torch.manual_seed(0)
    made = build(Model(name="fast-cnn", **{"filters": FILTERS, **settings}), (channels, 24, 24), 5)
    assert isinstance(made, Network)
    return made


def pictures(channels: int = 3, count: int = 40) -> Tensor:
    """Images whose neighboring pixels and channels resemble each other, normalized, with a little noise."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 1, 6, 6, generator=generator) + 0.5 * torch.randn(
        count, channels, 6, 6, generator=generator
    )
    images = F.interpolate(coarse, (24, 24), mode="bilinear")
    images += 0.3 * torch.randn(images.shape, generator=generator)
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


def whitened(made: Network, images: Tensor) -> Tensor:
    """What the first layer makes of each patch: one row for each, one column for each filter."""
    with torch.no_grad():
        return made.get_submodule("whitening")(images).movedim(1, -1).flatten(0, -2)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_patches_of_the_first_images_become_uncorrelated_and_of_variance_one(channels: int) -> None:
    made, images = network(channels), pictures(channels)
    half = 4 * channels
    raw = torch.cov(F.unfold(images, 2).transpose(1, 2).flatten(0, 1).T)
    # As they come they are neither, or there would be nothing to test.
    assert (raw - torch.eye(half)).abs().max() > 0.5

    made.initialize(images)

    found = torch.cov(whitened(made, images)[:, :half].T)
    torch.testing.assert_close(found, torch.eye(half), rtol=0, atol=0.02)


def test_the_other_half_of_the_filters_has_the_opposite_sign() -> None:
    made = network()
    made.initialize(pictures())

    outputs = whitened(made, pictures(count=4))

    assert outputs.shape[1] == 24
    assert torch.equal(outputs[:, 12:], -outputs[:, :12])


def test_directions_in_which_nothing_varies_are_not_blown_up() -> None:
    # Gray pictures in three channels: of twelve directions four vary.
    made, images = network(), pictures(1).expand(-1, 3, -1, -1)

    made.initialize(images)

    variances = whitened(made, images)[:, :12].var(0)
    assert (variances > 0.5).sum() == 4
    assert variances.max() < 1.02
    gain = made.get_buffer("whitening.filters").flatten(1).norm(dim=1)
    assert gain.max() == pytest.approx(EPSILON**-0.5, rel=1e-3)


@pytest.mark.parametrize("level", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_shade_are_no_reason_for_nan(channels: int, level: float) -> None:
    made = network(channels)
    images = torch.full((4, channels, 24, 24), level)

    made.initialize(images)

    assert made.get_buffer("whitening.filters").isfinite().all()
    assert made(images).isfinite().all()
    assert made(pictures(channels)).isfinite().all()


def test_images_in_another_order_of_memory_give_the_same_filters() -> None:
    made, other = network(), network()

    made.initialize(pictures())
    other.initialize(pictures().to(memory_format=torch.channels_last))

    assert torch.equal(made.get_buffer("whitening.filters"), other.get_buffer("whitening.filters"))


def test_the_whitening_is_not_trained_but_travels_with_the_weights() -> None:
    made, images = network(), pictures()
    made.initialize(images)
    filters = made.get_buffer("whitening.filters").clone()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, weight_decay=0.1)

    made(images).square().mean().backward()
    optimizer.step()

    assert torch.equal(made.get_buffer("whitening.filters"), filters)
    assert made.get_parameter("whitening.bias").any()
    other = network()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.get_buffer("whitening.filters"), filters)


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 32), (24, 24), (24, 7)])
def test_the_first_filters_start_by_passing_their_channel_on(inputs: int, outputs: int) -> None:
    first = network(filters=(outputs, 8, 8)).get_submodule("groups.0.convolutions.0")
    images = torch.randn(2, inputs, 9, 9)
    same = min(inputs, outputs)

    found = first(images)

    torch.testing.assert_close(found[:, :same], images[:, :same])
    # What is left over begins at random.
    assert len(torch.unique(first.weight[same:])) == first.weight[same:].numel()


@pytest.mark.parametrize("depth", [8, 11])
def test_later_convolutions_of_a_group_start_as_the_identity(depth: int) -> None:
    made = network(depth=depth)
    later = [
        module for name, module in made.named_modules() if isinstance(module, nn.Conv2d) and not name.endswith(".0")
    ]

    assert len(later) == {8: 3, 11: 6}[depth]
    for convolution in later:
        images = torch.randn(2, convolution.in_channels, 5, 5)
        torch.testing.assert_close(convolution(images), images)


@pytest.mark.parametrize("depth", [8, 11])
def test_as_many_layers_have_weights_as_the_depth_says(depth: int) -> None:
    made = network(depth=depth)

    layers = [module for module in made.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    # The whitening's weights are set, not learned, so it is no torch layer.
    assert 1 + len(layers) == depth


def test_each_group_has_its_number_of_filters() -> None:
    filters = [module.out_channels for module in network(depth=8).modules() if isinstance(module, nn.Conv2d)]

    assert filters == [32, 32, 40, 40, 48, 48]


def test_the_third_convolution_of_a_group_has_a_shortcut_from_the_first() -> None:
    group = network(depth=11).get_submodule("groups.0")
    images = torch.randn(2, 24, 8, 8)
    first: list[Tensor] = []
    group.get_submodule("norms.0").register_forward_hook(lambda _module, _inputs, output: first.append(output))
    nn.init.zeros_(group.get_parameter("norms.2.weight"))

    outputs = group(images)

    assert torch.equal(outputs, F.relu(first[0]))
    assert outputs.any()


def test_the_averages_of_the_normalization_follow_a_short_training() -> None:
    made, images = network().train(), pictures()
    made.initialize(images)
    norm = made.get_submodule("groups.0.norms.0")
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].mean((0, 2, 3))))

    for _ in range(10):
        made(images)

    # Ten batches at torch's own share of a tenth would leave a third of the distance.
    torch.testing.assert_close(norm.running_mean, seen[0], rtol=0.01, atol=1e-4)


def test_dropout_lies_before_the_last_layer_and_only_if_asked_for() -> None:
    images = pictures(count=4)
    plain, dropping = network(), network(dropout=0.5)

    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(dropping(images), dropping(images))
    dropping.get_submodule("dropout").register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
    assert not dropping(images).any()


@pytest.mark.parametrize("depth", [1, 7, 9, 14])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ModelError, match=rf"^model\.depth: fast-cnn has 8 or 11 layers, not {depth}$"):
        network(depth=depth)


@pytest.mark.parametrize("filters", [(8,), (8, 8), (8, 16, 32, 64)])
def test_another_number_of_groups_is_refused(filters: tuple[int, ...]) -> None:
    given = ", ".join(map(str, filters))

    with pytest.raises(
        ModelError, match=rf"^model\.filters: fast-cnn has 3 groups, so it needs 3 numbers, got \[{given}\]$"
    ):
        network(filters=filters)


# --- as in airbench94_muon ---------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "function"), [("relu", F.relu), ("gelu", F.gelu)])
@pytest.mark.parametrize("depth", [8, 11])
def test_each_layer_is_followed_by_the_activation(activation: str, function: Callable, depth: int) -> None:
    made = network(activation=activation, depth=depth)
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) or module is made.get_submodule("whitening"):
            module.register_forward_hook(lambda module, inputs, output: calls.append((module, inputs[0], output)))

    made(pictures(count=4))

    assert torch.equal(calls[1][1], function(calls[0][2]))  # the whitening, which no normalization follows
    normalized = [output for module, _, output in calls if isinstance(module, nn.BatchNorm2d)]
    shown = [inputs for module, inputs, _ in calls if isinstance(module, nn.Conv2d)][1:]
    shown.append(calls[-1][1][..., None, None])
    assert len(normalized) == len(shown) == depth - 2
    # The third of a group has the shortcut added to it before, and the last goes through the pooling.
    for number, (output, inputs) in enumerate(zip(normalized, shown, strict=True)):
        if depth == 8 or number % 3 != 2:
            expected = function(output)
            torch.testing.assert_close(inputs, expected.amax((2, 3), keepdim=True) if number == depth - 3 else expected)


def scales(made: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in made.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_scales_that_are_frozen_stay_one_and_everything_else_learns(freeze: bool, optimizer: str) -> None:
    made = network(freeze_norm_scale=freeze)
    before = {name: value.detach().clone() for name, value in made.named_parameters()}
    built = build_optimizer(made, Train(optimizer=optimizer, lr=0.1, weight_decay=0.1))

    F.cross_entropy(made(pictures(count=8)), torch.arange(8) % 5).backward()
    built.step()

    kept = {name for name, value in made.named_parameters() if torch.equal(value, before[name])}
    frozen = {name for name in before if "norms" in name and name.endswith("weight")}
    assert len(frozen) == len(scales(made)) == 6
    assert kept == (frozen if freeze else set())
    assert all((scale == 1).all() for scale in scales(made)) is freeze


@pytest.mark.parametrize(
    ("epochs", "learns"),
    [(None, [True] * 4), (2, [True, True, False, False]), (0, [False] * 4)],
    ids=["in all epochs", "in two", "in none"],
)
def test_the_bias_of_the_whitening_learns_in_the_first_epochs(epochs: int | None, learns: list[bool]) -> None:
    made, found = network(whitening_epochs=epochs), []
    for epoch in range(1, 5):
        made.begin_epoch(epoch)
        made.zero_grad()
        made(pictures(count=4)).square().mean().backward()
        found.append(made.get_parameter("whitening.bias").grad is not None)

    assert found == learns
