"""A GPU that is made up."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn, optim
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A GPU that computes nothing, but knows the device of every tensor, and refuses to give a value to the host."""

    class Drawing(torch.Generator):
        """On the CPU, wherever it is asked for."""

        device = torch.device("cuda", 0)

        def __new__(cls, device: object = None) -> "Drawing":
            return super().__new__(cls)

    monkeypatch.setattr(torch, "Generator", Drawing)
    monkeypatch.setattr(
        "darkroom.data.augmentation.mixing._quantiles", lambda alpha, device: torch.zeros(4096, device=device)
    )
    # torch's fused optimizers have no kernels but for real devices.
    for optimizer in (optim.Adam, optim.AdamW, optim.SGD):
        monkeypatch.setattr(optimizer, "step", lambda optimizer: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 35, 1 << 36))
    # A module cannot move tensors that are made up: they are made where they are to be.
    monkeypatch.setattr(nn.Module, "to", lambda module, *given, **named: module)
    monkeypatch.setattr("darkroom.training.step._balanced_weights", lambda labels: torch.ones(3))
    # A copy of a tensor belongs to the same mode.
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False)
    with FakeTensorMode():
        yield torch.device("cuda", 0)
