"""Every architecture, small, and weights for a pretrained one."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from tests.unit.models.backbones import BACKBONE, States

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


@pytest.fixture(scope="module")
def learned() -> States:
    """Weights of a network for the thousand classes of ImageNet, with averages that no new network has."""
    torch.manual_seed(7)
    states: States = torchvision.models.get_model(BACKBONE, weights=None).state_dict()
    for name, value in states.items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            value.fill_(1234)
    return states


@pytest.fixture(scope="module")
def weights_file(learned: States, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(learned, path)
    return path


@pytest.fixture
def torch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision keeps its files, with nothing in it, and no way to fetch any."""

    def unreachable(*_args: Any, **_options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "checkpoints"
