"""Classifiers with weights that say something, and images of noise for them."""

import pytest
import torch

from darkroom.models.classifier import build_classifier
from darkroom.settings import Model


@pytest.fixture
def make_classifier(make_card):
    """A classifier in evaluation mode whose weights, biases and averages are all drawn at random."""

    def make(shape=(1, 8, 8), **settings):
        classifier = build_classifier(Model(**(settings or {"name": "mlp", "hidden": (8,)})), make_card(shape))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            # New heads and biases are zeros, new averages the same for every channel: a file without them would do.
            for name, value in classifier.network.state_dict().items():
                if value.is_floating_point() and not name.endswith(("running_mean", "running_var")):
                    value += 0.05 * torch.randn(value.shape, generator=generator)
                elif value.is_floating_point():
                    value += 0.2 * torch.rand(value.shape, generator=generator)
        return classifier.eval()

    return make


@pytest.fixture
def noise():
    def make(count, shape=(1, 8, 8)):
        generator = torch.Generator().manual_seed(1)
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)

    return make
