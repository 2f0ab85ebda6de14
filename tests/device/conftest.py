"""Tests of the training core on the device that DARKROOM_TEST_DEVICE names; without it on the CPU.

DARKROOM_TEST_DEVICE=cuda pytest tests/device
"""

from collections.abc import Iterator

import pytest
import torch
from tests.conftest import TEST_DEVICE
from tests.device.backbone import TinyBackbone

from darkroom.training.device import prepare, set_tf32


@pytest.fixture(scope="session")
def device() -> torch.device:
    if TEST_DEVICE == "cpu":
        return torch.device("cpu")
    # With its number, as tensors have it.
    return torch.zeros(0, device=TEST_DEVICE).device


@pytest.fixture(autouse=True)
def exact(device: torch.device) -> Iterator[None]:
    """Float32 as it is written, and the same bits in every run."""
    prepare(device, deterministic=True)
    set_tf32(device, "fp32")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> TinyBackbone:
    return TinyBackbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(autouse=True)
def tiny_backbone(backbone: TinyBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretrained models stand on the backbone of these tests, and not on one whose weights would have to be fetched."""
    monkeypatch.setattr("darkroom.models.pretrained.find_backbone", lambda name: backbone)
