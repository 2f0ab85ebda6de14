"""Classifiers with weights that say something, and images of noise for them."""

from functools import cache

import pytest
import torch

from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import build_classifier


@pytest.fixture(scope="session", autouse=True)
def _steps_read_once():
    """For each export torch reads anew how ONNX writes its hundreds of steps, which takes half of the time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session")
def make_card():
    """As everywhere, but for what is made once."""

    def make(shape=(1, 8, 8)):
        mean, std = (0.2, 0.4, 0.7)[: shape[0]], (0.3, 0.1, 0.5)[: shape[0]]
        return DatasetCard("small", ("a", "b", "c"), shape, mean, std, sizes={}, settings={}, fingerprint="0" * 64)

    return make


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def noise():
    def make(count, shape=(1, 8, 8)):
        generator = torch.Generator().manual_seed(1)
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)

    return make
