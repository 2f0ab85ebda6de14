"""Projections: torch's convolution of every other pixel, without what it does to the memory."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from darkroom.models.projection import Projection

# In a process of its own: where it goes wrong, the memory of the process does.
TRAINED = """
import torch
from darkroom.models.projection import Projection

torch.manual_seed(0)
projection = Projection(8, 16, 2).to(memory_format=torch.channels_last)
for _ in range(30):
    images = torch.randn(13, 8, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    projection(images).sum().backward()
"""


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_it_is_a_convolution_of_single_pixels_with_its_gradients(stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    own, published = Projection(3, 5, stride).double(), nn.Conv2d(3, 5, 1, stride, bias=False).double()
    own.load_state_dict(published.state_dict())
    found = []
    for layer in (own, published):
        images = torch.arange(4 * 3 * size[0] * size[1]).double().sin().view(4, 3, *size).requires_grad_()
        answers = layer(images)
        answers.square().sum().backward()
        found.append((answers, images.grad, layer.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_training_few_channels_in_channels_last_leaves_the_memory_intact() -> None:
    ended = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
