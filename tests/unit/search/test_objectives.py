"""What a model costs, the second objective, is a fact of the model."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from darkroom.config.settings import Model
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import build_classifier
from darkroom.search.objectives import cost


def test_the_parameters_are_counted(make_card: Callable[..., DatasetCard]) -> None:
    card = make_card()
    model = build_classifier(Model(name="mlp", hidden=(5,)), card)

    assert cost("parameters", model, card) == (64 * 5 + 5) + (5 * 3 + 3)


def test_frozen_parameters_are_counted_too(make_card: Callable[..., DatasetCard]) -> None:
    card = make_card()
    model = build_classifier(Model(name="mlp", hidden=(5,)), card)
    model.requires_grad_(False)

    assert cost("parameters", model, card) == 343


class Recorder(nn.Module):
    """Takes notes of how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[tuple[bool, bool, torch.dtype, tuple[int, ...]]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.training, torch.is_grad_enabled(), images.dtype, tuple(images.shape)))
        return self.weight


def test_the_latency_is_of_one_image_in_evaluation_mode(make_card: Callable[..., DatasetCard]) -> None:
    model = Recorder()

    assert cost("latency", model, make_card((3, 8, 9))) > 0

    assert set(model.calls) == {(False, False, torch.uint8, (1, 3, 8, 9))}


def test_the_latency_is_the_median_after_a_warm_up(
    make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first calls take a second each, the others 1, 2, 3, ... milliseconds.
    durations = [1.0] * 5 + [count / 1000 for count in range(1, 51)]
    clock = iter([moment for duration in durations for moment in (0.0, duration)])
    monkeypatch.setattr("darkroom.evaluation.latency.perf_counter", lambda: next(clock))

    assert cost("latency", Recorder(), make_card()) == pytest.approx(25.5)
