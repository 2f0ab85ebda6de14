"""Every architecture, small."""

import pytest

from darkroom.config.settings import Model
from darkroom.models.registry import architectures

SMALL = [
    Model(name="mlp"),
    Model(name="simple-cnn"),
    Model(name="resnet", depth=9, width=8),
    Model(name="resnet", depth=10, width=8),
    Model(name="wide-resnet", depth=10, widen_factor=1),
    Model(name="fast-cnn", depth=8, filters=(8, 16, 16)),
    Model(name="fast-cnn", depth=11, filters=(8, 16, 16)),
    Model(name="pretrained", backbone="mobilenet_v3_small"),
]


@pytest.fixture(params=SMALL, ids=[f"{model.name}-{model.depth}" if model.depth else model.name for model in SMALL])
def small_model(request: pytest.FixtureRequest) -> Model:
    """Settings of each architecture, and of each kind of network that it makes."""
    model: Model = request.param
    return model


@pytest.fixture
def small_models() -> list[Model]:
    return SMALL


@pytest.fixture
def small_side(small_model: Model) -> int:
    """A height and width that ``small_model`` can take."""
    return max(7, architectures()[small_model.name].smallest)
