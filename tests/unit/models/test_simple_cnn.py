"""Where the small convolutional network halves its images."""

import pytest
from torch import nn

from darkroom.config.settings import Model
from darkroom.models.registry import build


def layers(shape: tuple[int, int, int] = (1, 28, 28), **settings: object) -> list[nn.Module]:
    return list(build(Model(name="simple-cnn", **settings), shape, 10))


def features(modules: list[nn.Module]) -> int:
    """The numbers that are left of an image before the first dense layer."""
    return next(module.in_features for module in modules if isinstance(module, nn.Linear))


@pytest.mark.parametrize(
    ("pooling", "height", "width"),
    [("each", 32 // 8, 20 // 8), ("between", 32 // 4, 20 // 4), ("none", 32, 20)],
)
def test_pooling_halves_after_each_convolution_or_between_them_or_nowhere(
    pooling: str, height: int, width: int
) -> None:
    assert features(layers((3, 32, 20), filters=(4, 5, 6), pooling=pooling)) == 6 * height * width


def test_between_is_nowhere_if_there_is_one_convolution() -> None:
    assert features(layers(filters=(5,), pooling="between")) == 5 * 28 * 28
    assert features(layers(filters=(5,), pooling="each")) == 5 * 14 * 14


def test_an_image_is_halved_no_further_than_to_one_pixel() -> None:
    # 9 x 5, 4 x 2, 2 x 1: a third halving would leave nothing of the width.
    assert features(layers((1, 9, 5), filters=(2, 2, 2, 3), pooling="each")) == 3 * 2 * 1


def test_by_default_it_is_the_network_of_the_tutorials() -> None:
    # Two convolutions, pooling after each, a dense layer of 128: with biases, 28 x 28 pixels and 10 classes.
    parameters = (9 * 32 + 32) + (32 * 9 * 64 + 64) + (64 * 7 * 7 * 128 + 128) + (128 * 10 + 10)

    modules = layers()

    assert sum(value.numel() for module in modules for value in module.parameters()) == parameters
    assert [module.p for module in modules if isinstance(module, nn.Dropout)] == [0.25, 0.25]
