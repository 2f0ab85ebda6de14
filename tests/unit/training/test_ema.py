"""With train.ema it is the moving average of the weights that is validated and kept."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import CPU, Split
from darkroom.models.classifier import Classifier
from darkroom.training.fit import fit
from darkroom.training.loop import FitResult

STEPS_PER_EPOCH = 4
Weights = dict[str, Tensor]


def train_settings(**settings: Any) -> Train:
    return Train(**{"device": "cpu", "precision": "fp32", "batch_size": 16, "epochs": 4, "lr": 0.02, **settings})


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return Classifier(network, (0.4,), (0.3,))


@pytest.fixture
def data(make_split) -> tuple[Split, Split]:
    # So much noise that the epochs differ.
    return make_split(50, noise=200, seed=1), make_split(24, noise=200, seed=2)


def floats(model: nn.Module) -> Weights:
    """All numbers that training changes: weights and the normalization's averages."""
    return {key: value.clone() for key, value in model.state_dict().items() if value.is_floating_point()}


def fitted(model: nn.Module, data: tuple[Split, Split], settings: Train) -> tuple[FitResult, list[Weights]]:
    """The result, and the trained weights after each step."""
    steps: list[Weights] = []
    return fit(model, *data, settings, Augment(), CPU, on_step=lambda: steps.append(floats(model))), steps


def averaged(steps: list[Weights], decay: float) -> list[Weights]:
    """The moving average after each step. It begins with the first."""
    found = [steps[0]]
    for weights in steps[1:]:
        found.append({key: decay * found[-1][key] + (1 - decay) * value for key, value in weights.items()})
    return found


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_the_average_over_the_steps_is_validated_and_kept(model, data, decay: float) -> None:
    judge, val = copy.deepcopy(model), data[1]

    result, steps = fitted(model, data, train_settings(ema=decay))

    averages = averaged(steps, decay)[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH]
    assert len(averages) == len(result.history) == 4
    for metrics, weights in zip(result.history, averages, strict=True):
        judge.load_state_dict(weights, strict=False)
        with torch.no_grad():
            logits = judge.eval()(val.images)
        assert metrics.val_loss == pytest.approx(F.cross_entropy(logits, val.labels).item(), rel=1e-4)
        assert metrics.val_accuracy == pytest.approx((logits.argmax(1) == val.labels).double().mean().item())
    for key, value in floats(model).items():
        torch.testing.assert_close(value, averages[result.best.epoch - 1][key], rtol=1e-4, atol=1e-6, msg=key)


def test_the_normalizations_averages_are_averaged_too(model, data) -> None:
    _, steps = fitted(model, data, train_settings(ema=0.9, epochs=1))

    key = "network.1.running_mean"
    kept = model.state_dict()[key]
    torch.testing.assert_close(kept, averaged(steps, 0.9)[-1][key], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(kept, steps[-1][key], rtol=1e-2)


def test_what_is_trained_is_not_touched_by_the_average(model, data) -> None:
    other = copy.deepcopy(model)

    with_average, steps = fitted(model, data, train_settings(ema=0.9))
    without, expected = fitted(other, data, train_settings())

    for one, same in zip(steps, expected, strict=True):
        assert all(torch.equal(one[key], same[key]) for key in one)
    assert [each.train_loss for each in with_average.history] == [each.train_loss for each in without.history]
    assert [each.val_loss for each in with_average.history] != [each.val_loss for each in without.history]
