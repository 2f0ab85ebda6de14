"""The optimizer is the one that was named, and the learning rate takes the course that was named."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn, optim

from darkroom.config.settings import Train
from darkroom.training.muon import MuonAdamW
from darkroom.training.optimizers import build_optimizer
from darkroom.training.schedule import Schedule

STEPS_PER_EPOCH = 5


def rates(settings: Train) -> list[float]:
    """The learning rate of each step of a whole training."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(nn.ParameterList([weight]), settings)
    schedule = Schedule(optimizer, settings, STEPS_PER_EPOCH)
    found = []
    for _ in range(settings.epochs * STEPS_PER_EPOCH):
        found.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
    return found


def test_constant_stays() -> None:
    assert rates(Train(epochs=2, lr=0.5, schedule="constant")) == pytest.approx([0.5] * 10)


def test_cosine_is_half_way_down_in_the_middle_and_falls_to_zero() -> None:
    found = rates(Train(epochs=4, lr=0.8, schedule="cosine"))

    # After 0, 5, 10, 15 and 19 of 20 steps: the cosine of 0, 45, 90, 135 and 171 degrees.
    expected = [0.8, 0.4 * (1 + math.sqrt(0.5)), 0.4, 0.4 * (1 - math.sqrt(0.5)), 0.4 * (1 - 0.9876883405951378)]
    assert [found[step] for step in (0, 5, 10, 15, 19)] == pytest.approx(expected)


def test_warm_up_rises_by_equal_steps_to_the_peak() -> None:
    found = rates(Train(epochs=2, lr=0.6, schedule="constant", warmup_epochs=1))

    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6])


def test_cosine_after_warm_up_starts_at_the_peak_and_takes_the_remaining_steps() -> None:
    found = rates(Train(epochs=3, lr=0.6, schedule="cosine", warmup_epochs=1))

    assert found[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert found[10] == pytest.approx(0.3)  # half of the ten remaining steps
    assert found[5:] == pytest.approx([0.3 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])


def test_linear_falls_to_zero_in_equal_steps() -> None:
    found = rates(Train(epochs=2, lr=0.5, schedule="linear"))

    assert found == pytest.approx([0.05 * step for step in range(10, 0, -1)])


@pytest.mark.parametrize("epochs", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_cosine_and_one_cycle_are_torchs(epochs: int, warmup: int) -> None:
    def of_torch(make: Callable[[optim.Optimizer], optim.lr_scheduler.LRScheduler], total: int) -> list[float]:
        optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
        schedule = make(optimizer)
        found = []
        for _ in range(total):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    total, first = epochs * STEPS_PER_EPOCH, warmup * STEPS_PER_EPOCH
    cycle = of_torch(lambda given: optim.lr_scheduler.OneCycleLR(given, 0.5, total), total)
    assert rates(Train(epochs=epochs, lr=0.5, schedule="one-cycle")) == pytest.approx(cycle)
    if warmup < epochs:
        cosine = of_torch(lambda given: optim.lr_scheduler.CosineAnnealingLR(given, total - first), total - first)
        found = rates(Train(epochs=epochs, lr=0.5, schedule="cosine", warmup_epochs=warmup))
        assert found[first:] == pytest.approx(cosine)


def test_one_cycle_rises_for_30_percent_and_falls_below_its_start() -> None:
    found = rates(Train(epochs=2, lr=0.5, schedule="one-cycle"))

    # Of ten steps the third has the peak; it starts at 1/25 of it and ends at 1/10000 of the start.
    assert found[2] == max(found) == pytest.approx(0.5)
    assert found[0] == pytest.approx(0.02)
    assert found[1] == pytest.approx((0.02 + 0.5) / 2)
    assert found[-1] == pytest.approx(0.000002)


def test_one_cycle_leaves_the_momentum_alone() -> None:
    weight = nn.Parameter(torch.zeros(1))
    settings = Train(epochs=2, optimizer="sgd", momentum=0.7, schedule="one-cycle")
    optimizer = build_optimizer(nn.ParameterList([weight]), settings)

    Schedule(optimizer, settings, STEPS_PER_EPOCH)

    assert optimizer.param_groups[0]["momentum"] == 0.7


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one-cycle"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_every_schedule_lasts_for_a_training_of_any_length(schedule: str, epochs: int) -> None:
    found = rates(Train(epochs=epochs, lr=0.5, schedule=schedule))

    assert all(0 <= rate <= 0.5 + 1e-12 for rate in found)


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (Train(optimizer="adam", lr=0.1, weight_decay=0.3), optim.Adam, {"weight_decay": 0.3}),
        (Train(optimizer="adamw", lr=0.1, weight_decay=0.3), optim.AdamW, {"weight_decay": 0.3}),
        (
            Train(optimizer="sgd", lr=0.1, weight_decay=0.3, momentum=0.5),
            optim.SGD,
            {"weight_decay": 0.3, "momentum": 0.5, "nesterov": True},
        ),
        (Train(optimizer="sgd", lr=0.1, momentum=0.0), optim.SGD, {"momentum": 0.0, "nesterov": False}),
        (Train(optimizer="muon", lr=0.1, weight_decay=0.3), MuonAdamW, {"weight_decay": 0.3}),
    ],
)
def test_the_optimizer_is_the_named_one_with_the_given_settings(settings, kind, expected) -> None:
    optimizer = build_optimizer(nn.ParameterList([nn.Parameter(torch.zeros(1))]), settings)

    group = optimizer.param_groups[0]
    assert type(optimizer) is kind
    assert {key: group[key] for key in ("lr", *expected)} == {"lr": 0.1, **expected}


def test_one_step_of_sgd_is_nesterovs() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer(
        nn.ParameterList([weight]), Train(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.25)
    )
    for gradient in (1.0, 3.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()

    # g = gradient + 0.25 w; v = 0.5 v + g; w = w - 0.1 (g + 0.5 v)
    # 1: g = 1.5, v = 1.5, w = 2 - 0.225 = 1.775   2: g = 3.44375, v = 4.19375, w = 1.775 - 0.5540625
    assert weight.item() == pytest.approx(1.2209375)


def test_a_layer_that_begins_to_learn_later_takes_the_steps_of_torchs_plain_sgd() -> None:
    model, twin = (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double() for _ in range(2))
    twin.load_state_dict(model.state_dict())
    fused = build_optimizer(model, Train(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01))
    plain = optim.SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=0.01, nesterov=True, fused=False)

    for step in range(6):
        for each, optimizer in ((model, fused), (twin, plain)):
            each[0].requires_grad_(step >= 3)
            optimizer.zero_grad()
            each(torch.full((4, 3), 1.0 + step, dtype=torch.float64)).square().mean().backward()
            optimizer.step()

    for mine, torchs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, torchs)
