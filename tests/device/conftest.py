"""Tests of the training core on the device that DARKROOM_TEST_DEVICE names; without it on the CPU.

DARKROOM_TEST_DEVICE=cuda pytest tests/device
"""

from collections.abc import Iterator

import pytest
import torch
from tests.conftest import TEST_DEVICE

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
