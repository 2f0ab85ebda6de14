"""The range test shows the loss at rising learning rates, and suggests where it falls fastest."""

import copy
import math
from collections.abc import Iterable, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.nn import functional as F

from darkroom.config.settings import Augment, Model, Train
from darkroom.data.batches import CPU, Split, TrainBatches
from darkroom.errors import TrainingError
from darkroom.models.classifier import build_classifier
from darkroom.models.network import Network
from darkroom.training import lr_finder as module
from darkroom.training.fit import fit
from darkroom.training.lr_finder import LrCurve, find_lr, steepest_fall

DID_NOT_FALL = r"^the loss did not fall at any learning rate; look at the data and the settings"


def train_settings(**settings: Any) -> Train:
    return Train(**{"device": "cpu", "precision": "fp32", "batch_size": 16, **settings})


@pytest.fixture
def train(make_split) -> Split:
    return make_split(120, noise=120, seed=1)


@pytest.fixture
def model(make_card) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(Model(name="mlp", hidden=(32,)), make_card())


class Answering(nn.Module):
    """Answers from the pixels by a table that no training changes."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.idle = nn.Parameter(torch.zeros(table.shape[1]))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) / 255 @ self.table + 0 * self.idle


def scripted(monkeypatch: pytest.MonkeyPatch, model: nn.Module, train: Split, losses: Sequence[float]) -> LrCurve:
    """The test of a training in which the batches' losses are ``losses``."""
    coming = iter(losses)

    class Step:
        def __init__(self, model: nn.Module, optimizer: optim.Optimizer, *rest: object) -> None:
            self.optimizer = optimizer

        def __call__(self, *batch: object) -> tuple[Tensor, Tensor]:
            self.optimizer.step()
            return torch.tensor(next(coming), dtype=torch.float64), torch.tensor(0)

    monkeypatch.setattr(module, "TrainStep", Step)
    return find_lr(model, train, train_settings(), Augment(), CPU, steps=len(losses))


def smoothed(losses: Sequence[float]) -> list[float]:
    """After each loss the mean of those so far, in which each weighs 0.95 of the one after it."""
    found = []
    for last in range(len(losses)):
        weights = [0.95 ** (last - number) for number in range(last + 1)]
        found.append(sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights))
    return found


def steepest(measured: Sequence[float], lowest: int, reach: int) -> int:
    """Where the median slope of all pairs of losses up to ``reach`` steps away falls most, before ``lowest``.

    The first twentieth is in no pair.
    """
    first = math.ceil(len(measured) / 20) + reach
    places = range(first, min(lowest, len(measured) - reach))
    falls = {}
    for place in places:
        near = range(place - reach, place + reach + 1)
        falls[place] = np.median([(measured[j] - measured[i]) / (j - i) for i in near for j in near if i < j])
    return min(falls, key=falls.__getitem__)


def plain_losses(model: nn.Module, train: Split, batches: Iterable[tuple[Tensor, Tensor]], steps: int) -> list[float]:
    """The losses of an AdamW training whose learning rate rises, by hand."""
    optimizer = optim.AdamW(model.parameters(), 1.0, weight_decay=0.01, foreach=False)
    losses = []
    for number, (images, labels) in enumerate(islice(batches, steps)):
        optimizer.param_groups[0]["lr"] = 1e-6 * 10 ** (7 * number / (steps - 1))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- the curve ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [10, 25, 60])
def test_the_rates_rise_by_equal_factors_from_a_millionth_to_ten(
    monkeypatch: pytest.MonkeyPatch, model, train, steps: int
) -> None:
    losses = [1.0] * (steps // 2) + [0.5] * (steps - steps // 2)

    curve = scripted(monkeypatch, model, train, losses)

    assert curve.rates == pytest.approx([1e-6 * 10 ** (7 * step / (steps - 1)) for step in range(steps)])


def test_the_curve_is_of_a_plain_training_at_these_rates(model, train) -> None:
    batches = TrainBatches(train, 16, Augment(), seed=3)
    measured = plain_losses(copy.deepcopy(model), train, (batch for _ in count() for batch in batches), 100)
    expected = smoothed(measured)
    end = next(number for number in range(1, 100) if expected[number] > 4 * min(expected[:number]))
    steps: list[None] = []

    settings = train_settings(seed=3, lr=1e-5, epochs=1, schedule="one-cycle", weight_decay=0.01)
    curve = find_lr(model, train, settings, Augment(), CPU, steps=100, on_step=lambda: steps.append(None))

    # At rates of nearly 10 rounding grows; until there the two are the same.
    assert curve.losses == pytest.approx(expected[:end], rel=1e-3)
    assert len(curve.rates) == end
    assert len(steps) == end + 1  # the one that went too far is no part of the curve
    lowest = expected.index(min(expected[:end]))
    assert curve.suggestion == curve.rates[steepest(measured[:end], lowest, 7)]


@pytest.mark.parametrize("changes", [{"lr": 100.0}, {"lr": 1e-5, "schedule": "constant"}, {"warmup_epochs": 3}])
def test_the_present_rate_and_schedule_make_no_difference(model, train, changes: dict[str, Any]) -> None:
    other = copy.deepcopy(model)

    expected = find_lr(model, train, train_settings(), Augment(), CPU, steps=40)

    assert find_lr(other, train, train_settings(**changes), Augment(), CPU, steps=40) == expected


def test_it_ends_when_the_loss_is_four_times_its_lowest(monkeypatch: pytest.MonkeyPatch, model, train) -> None:
    losses = [2.0] * 10 + [0.5] * 60 + [30.0] * 30
    expected = smoothed(losses)
    end = next(number for number in range(100) if expected[number] > 4 * min(expected[: number + 1]))
    assert 70 <= end < 99

    curve = scripted(monkeypatch, model, train, losses)

    assert curve.losses == pytest.approx(expected[:end])


def test_a_loss_that_stays_below_that_is_followed_to_the_end(monkeypatch: pytest.MonkeyPatch, model, train) -> None:
    losses = [2.0] * 20 + [0.5] * 50 + [2.0] * 30

    curve = scripted(monkeypatch, model, train, losses)

    assert curve.losses == pytest.approx(smoothed(losses))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_it_ends_when_the_loss_is_no_number_any_more(monkeypatch: pytest.MonkeyPatch, model, train, value) -> None:
    losses = [2.0] * 10 + [0.5] * 30 + [value] * 10

    curve = scripted(monkeypatch, model, train, losses)

    assert curve.losses == pytest.approx(smoothed(losses[:40]))
    assert curve.suggestion in curve.rates[9:11]


@pytest.mark.parametrize("steps", [7, 8, 9, 30])
def test_every_step_is_told_also_over_several_epochs(train, steps: int) -> None:
    told: list[None] = []
    settings, still = train_settings(), Answering(torch.zeros(64, 3))
    assert len(TrainBatches(train, settings.batch_size, Augment(), 0)) == 8

    with pytest.raises(TrainingError):
        find_lr(still, train, settings, Augment(), CPU, steps=steps, on_step=lambda: told.append(None))

    assert len(told) == steps


# --- the suggestion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [13, 30, 50, 80, 92])
def test_the_suggestion_is_where_the_loss_falls_fastest(
    monkeypatch: pytest.MonkeyPatch, model, train, drop: int
) -> None:
    losses = [1.0 + 0.001 * (100 - step) if step < drop else 0.01 for step in range(100)]

    curve = scripted(monkeypatch, model, train, losses)

    place = curve.rates.index(curve.suggestion)
    assert drop - 1 <= place <= drop + 1


def falling(begin: int, end: int, noise: float, seed: int, steps: int = 200) -> list[float]:
    """Losses of batches that differ by ``noise`` about a fall from 2.3 to 0.5 between two steps."""
    curve = np.interp(range(steps), [begin, end], [2.3, 0.5])
    return list((curve + np.random.default_rng(seed).normal(0, noise, steps)).tolist())


@settings(max_examples=20, deadline=None)
@given(begin=st.integers(40, 120), length=st.integers(20, 60), noise=st.floats(0.01, 0.1), seed=st.integers(0, 999))
def test_the_suggestion_is_inside_a_fall_that_is_clear(begin: int, length: int, noise: float, seed: int) -> None:
    measured = falling(begin, begin + length, noise, seed)

    place = steepest_fall(measured, smoothed(measured))

    assert place is not None
    assert begin - 7 < place < begin + length + 7


@settings(max_examples=20, deadline=None)
@given(noise=st.floats(0.01, 0.1), spike=st.floats(-5, 5), at=st.integers(0, 9), seed=st.integers(0, 999))
def test_a_noisy_first_step_never_wins(noise: float, spike: float, at: int, seed: int) -> None:
    measured = falling(100, 150, noise, seed)
    measured[at] += spike

    place = steepest_fall(measured, smoothed(measured))

    assert place is not None
    assert 93 < place < 157


@settings(max_examples=20, deadline=None)
@given(spikes=st.lists(st.integers(0, 199), min_size=1, max_size=3, unique=True), seed=st.integers(0, 999))
def test_a_hard_batch_is_not_taken_for_a_fall(spikes: list[int], seed: int) -> None:
    measured = falling(100, 150, 0.05, seed)
    for step in spikes:
        measured[step] += 5

    place = steepest_fall(measured, smoothed(measured))

    assert place is not None
    assert 93 < place < 157


def test_noise_alone_is_not_taken_for_a_fall() -> None:
    generator = np.random.default_rng(0)

    for _ in range(50):
        measured = generator.normal(2.3, 0.1, 200).tolist()
        assert steepest_fall(measured, smoothed(measured)) is None


def test_the_suggestion_is_before_the_lowest_loss_even_if_that_falls_to_the_end(
    monkeypatch: pytest.MonkeyPatch, model, train
) -> None:
    # Each time by more: the steepest fall of all leads to the lowest point.
    losses = [10 - 1.1**step / 20 for step in range(50)]

    curve = scripted(monkeypatch, model, train, losses)

    assert min(curve.losses) == curve.losses[-1]
    # The last step about which there are as many losses on either side.
    assert curve.suggestion == curve.rates[-5]


@pytest.mark.parametrize(
    ("changes", "augment"),
    [
        ({"optimizer": "adamw"}, Augment()),
        ({"optimizer": "adam"}, Augment()),
        ({"optimizer": "sgd"}, Augment()),
        ({"optimizer": "muon"}, Augment()),
        ({"accumulate": 3, "clip_norm": 1.0, "label_smoothing": 0.1}, Augment(mixup=0.2)),
        ({"class_weights": "balanced", "ema": 0.9}, Augment(cutmix=0.2, translate=1)),
        ({"sampler": "balanced", "optimizer": "muon"}, Augment(flip="random")),
        ({"precision": "bf16"}, Augment(rotate=5)),
    ],
    ids=["adamw", "adam", "sgd", "muon", "mixup", "class weights", "sampler", "bf16"],
)
def test_training_at_the_suggested_rate_lowers_the_loss(
    model, make_split, train, changes: dict[str, Any], augment: Augment
) -> None:
    settings = train_settings(epochs=8, **changes)
    fresh = copy.deepcopy(model)

    curve = find_lr(model, train, settings, augment, CPU, steps=100)

    assert curve.rates[0] < curve.suggestion < curve.rates[curve.losses.index(min(curve.losses))]
    suggested = settings.model_copy(update={"lr": curve.suggestion})
    result = fit(fresh, train, make_split(60, noise=120, seed=2), suggested, augment, CPU)
    assert result.best.val_loss < 0.5 * math.log(3)


# --- a loss that does not fall -----------------------------------------------------------------------


def test_the_same_answer_at_every_rate_suggests_none(train) -> None:
    with pytest.raises(TrainingError, match=DID_NOT_FALL):
        find_lr(Answering(torch.zeros(64, 3)), train, train_settings(), Augment(), CPU)


@pytest.mark.parametrize("seed", range(10))
def test_batches_that_merely_differ_suggest_no_rate(train, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    chance = Split(train.images, torch.randint(0, 3, (120,), generator=generator))
    table = torch.randn(64, 3, generator=generator) / 2

    with pytest.raises(TrainingError, match=DID_NOT_FALL):
        find_lr(Answering(table), chance, train_settings(seed=seed), Augment(), CPU, steps=100)


@pytest.mark.parametrize(
    "losses",
    [
        [1.0 + 0.01 * step for step in range(50)],
        [1.0] * 25 + [0.9995] * 25,
        [math.nan] * 50,
        [1.0, math.nan],
        [0.0] * 50,
        np.random.default_rng(0).normal(1, 0.1, 200).tolist(),
    ],
    ids=["rises", "hardly falls", "is no number", "becomes none", "is zero", "is noise"],
)
def test_a_loss_that_does_not_fall_suggests_no_rate(monkeypatch: pytest.MonkeyPatch, model, train, losses) -> None:
    with pytest.raises(TrainingError, match=DID_NOT_FALL):
        scripted(monkeypatch, model, train, losses)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_so_few_steps_tell_nothing(model, train, optimizer: str, steps: int) -> None:
    told: list[None] = []

    with pytest.raises(TrainingError, match=r"or take more steps$"):
        find_lr(
            model,
            train,
            train_settings(optimizer=optimizer),
            Augment(),
            CPU,
            steps=steps,
            on_step=lambda: told.append(None),
        )

    assert len(told) == steps


# --- networks that take part -------------------------------------------------------------------------


class Taking(Network):
    """Notes the epochs that begin, and lets its first layer learn at a share of the rate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 3)
        self.begun: list[tuple[int, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images.flatten(1) / 255).relu())

    def begin_epoch(self, epoch: int) -> None:
        self.begun.append((epoch, self.training))

    def lr_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys(self.first.parameters(), 0.25)


@pytest.mark.parametrize("epochs", [1, 7])
def test_a_network_is_in_a_later_epoch_than_any_of_the_training(train, epochs: int) -> None:
    network = Taking()

    find_lr(nn.Sequential(network.eval()), train, train_settings(epochs=epochs), Augment(), CPU, steps=60)

    assert network.begun == [(epochs + 1, True)]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
def test_the_rates_are_those_of_the_parameters_that_learn_at_the_whole(train, optimizer: str) -> None:
    curve = find_lr(Taking(), train, train_settings(optimizer=optimizer), Augment(), CPU, steps=100)

    assert curve.rates == pytest.approx([1e-6 * 10 ** (7 * step / 99) for step in range(len(curve.rates))])


def test_rates_beside_it_stay_the_same_share_of_it(train) -> None:
    settings: list[dict[str, float]] = [
        {"lr": 0.1, "bias_lr": 0.8, "head_lr": 0.2},
        {"lr": 0.4, "bias_lr": 3.2, "head_lr": 0.8},
        {"lr": 0.1, "bias_lr": 0.1, "head_lr": 0.2},
        {"lr": 0.1},
    ]
    curves = []
    for rates in settings:
        torch.manual_seed(0)
        curves.append(find_lr(Taking(), train, train_settings(**rates), Augment(), CPU, steps=100))

    first, scaled, *others = curves
    assert scaled.losses == pytest.approx(first.losses)
    for other in others:
        assert other.losses[50:] != pytest.approx(first.losses[50:], rel=1e-3)
