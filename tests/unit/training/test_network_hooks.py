"""A network that takes part in its training is told of its epochs, and learns at the rates that it wants."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import CPU, Split
from darkroom.models.network import Network
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.fit import fit
from darkroom.training.loop import EpochMetrics
from darkroom.training.optimizers import build_optimizer
from darkroom.training.schedule import Schedule

OPTIMIZERS = ["adam", "adamw", "sgd", "muon"]
STEPS_PER_EPOCH = 4


class Part(Network):
    """One dense layer that learns at a share of the rate, and that notes what it is told."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.dense, self.dropout = nn.Linear(inputs, outputs), nn.Dropout(0.5)
        self.factor = factor
        self.told: list[tuple[int, bool]] = []

    def forward(self, features: Tensor) -> Tensor:
        return self.dropout(self.dense(features))

    def begin_epoch(self, epoch: int) -> None:
        self.told.append((epoch, self.training))
        if epoch == 1:
            self.dropout.eval()
        self.dense.requires_grad_(epoch != 2)

    def lr_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys(self.dense.parameters(), self.factor)


class Pixels(nn.Flatten):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images / 255)


def make_model(first: float = 0.25, second: float = 0.5) -> nn.Sequential:
    """Two networks inside a model that is none, and a head that learns at the whole rate."""
    torch.manual_seed(0)
    return nn.Sequential(Pixels(), Part(64, 9, first), nn.ReLU(), Part(9, 7, second), nn.ReLU(), nn.Linear(7, 3))


def factors(model: nn.Sequential) -> dict[nn.Parameter, float]:
    return {parameter: getattr(part, "factor", 1.0) for part in model for parameter in part.parameters()}


def train_settings(**settings: Any) -> Train:
    return Train(**{"device": "cpu", "precision": "fp32", "batch_size": 16, "epochs": 4, **settings})


@pytest.fixture
def data(make_split) -> tuple[Split, Split]:
    return make_split(50, seed=1), make_split(24, seed=2)


def rates(optimizer: optim.Optimizer) -> dict[int, float]:
    """The learning rate of each parameter, by its place in memory."""
    found = [(each.data_ptr(), float(group["lr"])) for group in optimizer.param_groups for each in group["params"]]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "constant"},
        {"schedule": "constant", "warmup_epochs": 1},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup_epochs": 2},
        {"schedule": "one-cycle"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_each_parameter_has_its_share_of_the_rate_at_every_step(optimizer: str, changes: dict[str, Any]) -> None:
    settings = train_settings(optimizer=optimizer, lr=0.08, **changes)
    model, single = make_model(), nn.Linear(1, 1)
    built, plain = build_optimizer(model, settings), build_optimizer(single, settings)
    schedule, full = Schedule(built, settings, STEPS_PER_EPOCH), Schedule(plain, settings, STEPS_PER_EPOCH)

    for _ in range(settings.epochs * STEPS_PER_EPOCH):
        rate = plain.param_groups[0]["lr"]
        expected = {parameter.data_ptr(): factor * rate for parameter, factor in factors(model).items()}
        assert rates(built) == pytest.approx(expected, rel=1e-6, abs=1e-12)
        for optimizing, following in ((built, schedule), (plain, full)):
            optimizing.step()
            following.step()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_at_a_share_of_the_rate_is_that_share_of_the_step(optimizer: str) -> None:
    settings = train_settings(optimizer=optimizer, lr=0.01, weight_decay=0.0)
    sharing, whole = make_model(), make_model(1.0, 1.0)
    moved = []
    for model in (sharing, whole):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        build_optimizer(model, settings).step()
        moved.append([after - start for after, start in zip(model.parameters(), before, strict=True)])

    for found, full, factor in zip(*moved, factors(sharing).values(), strict=True):
        torch.testing.assert_close(found, factor * full, rtol=1e-3, atol=1e-7)
        assert full.abs().max() > 0


@pytest.mark.parametrize(("bias_lr", "head_lr"), [(0.5, None), (None, 0.001), (0.02, 0.5), (0.3, 0.02), (0.08, 0.08)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_biases_and_the_head_learn_at_their_own_rates(
    optimizer: str, bias_lr: float | None, head_lr: float | None
) -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 6), nn.Linear(6, 3))
    settings = train_settings(optimizer=optimizer, lr=0.08, bias_lr=bias_lr, head_lr=head_lr, schedule="linear")
    built = build_optimizer(network, settings)
    schedule = Schedule(built, settings, STEPS_PER_EPOCH)
    schedule.step()

    of_biases = bias_lr or 0.08
    expected = {"0.weight": 0.08, "0.bias": of_biases, "1.weight": 0.08, "1.bias": of_biases, "2.weight": 0.08}
    expected |= {"2.bias": of_biases, "3.weight": head_lr or 0.08, "3.bias": head_lr or of_biases}
    share = 1 - 1 / (settings.epochs * STEPS_PER_EPOCH)
    found = rates(built)
    for name, parameter in network.named_parameters():
        assert found[parameter.data_ptr()] == pytest.approx(share * expected[name])
    schedule.step()
    assert schedule.last_rate == pytest.approx(share * 0.08)


@pytest.mark.parametrize("head_lr", [0.001, 0.08, 0.5])
@pytest.mark.parametrize("bias_lr", [0.001, 0.08, 0.5])
def test_muon_leaves_the_head_to_adamw_whatever_the_rates(bias_lr: float, head_lr: float) -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 3))

    built = build_optimizer(network, train_settings(optimizer="muon", lr=0.08, bias_lr=bias_lr, head_lr=head_lr))

    of_muon = {each.data_ptr() for group in built.param_groups if "ns_steps" in group for each in group["params"]}
    assert of_muon == {network[0].weight.data_ptr(), network[1].weight.data_ptr()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_network_without_wishes_learns_at_the_whole_rate(optimizer: str) -> None:
    network = nn.Sequential(Network(), nn.Linear(4, 4), nn.Linear(4, 3))

    built = build_optimizer(network, train_settings(optimizer=optimizer, lr=0.08))

    assert rates(built) == {parameter.data_ptr(): 0.08 for parameter in network.parameters()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("constant", [1.0] * 4), ("cosine", [0.5 + math.cos(math.pi * step / 16) / 2 for step in (3, 7, 11, 15)])],
)
def test_the_whole_rate_is_reported(data, optimizer: str, schedule: str, shares: list[float]) -> None:
    settings = train_settings(optimizer=optimizer, lr=0.01, schedule=schedule)

    result = fit(make_model(), *data, settings, Augment(), CPU)

    # Of the last step of each epoch.
    assert [metrics.lr for metrics in result.history] == pytest.approx([0.01 * share for share in shares])


def test_every_network_is_told_of_every_epoch_in_training_mode(data) -> None:
    model = make_model()

    fit(model, *data, train_settings(), Augment(), CPU)

    assert model[1].told == model[3].told == [(1, True), (2, True), (3, True), (4, True)]


def test_it_is_told_before_the_first_step_of_the_epoch(data) -> None:
    model = make_model()
    known: list[int] = []

    fit(model, *data, train_settings(epochs=3), Augment(), CPU, on_step=lambda: known.append(len(model[1].told)))

    assert known == [1] * STEPS_PER_EPOCH + [2] * STEPS_PER_EPOCH + [3] * STEPS_PER_EPOCH


def test_what_it_sets_for_an_epoch_lasts_for_that_epoch(data) -> None:
    model = make_model()
    dropping: list[bool] = []

    fit(
        model,
        *data,
        train_settings(epochs=3),
        Augment(),
        CPU,
        on_step=lambda: dropping.append(model[1].dropout.training),
    )

    assert dropping == [False] * STEPS_PER_EPOCH + [True] * 2 * STEPS_PER_EPOCH


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_it_freezes_for_an_epoch_stays_and_learns_again_in_the_next(data, optimizer: str) -> None:
    model = make_model()
    kept: list[Tensor] = []

    def note(metrics: EpochMetrics) -> None:
        kept.append(model[1].dense.weight.detach().clone())

    fit(model, *data, train_settings(optimizer=optimizer, epochs=3), Augment(), CPU, on_epoch=note)

    assert torch.equal(kept[1], kept[0])
    assert not torch.equal(kept[2], kept[1])


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_an_interruption_the_count_and_the_training_go_on(
    data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, done: int
) -> None:
    monkeypatch.setattr("darkroom.training.checkpoint.SHARE", math.inf)  # save after every epoch
    settings, checkpoint = train_settings(optimizer=optimizer, lr=0.01), Checkpoint(tmp_path / "train.pt", "key")

    def interrupt(metrics: EpochMetrics) -> None:
        if metrics.epoch == done:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(make_model(), *data, settings, Augment(), CPU, checkpoint=checkpoint, on_epoch=interrupt)
    found = make_model()
    fit(found, *data, settings, Augment(), CPU, checkpoint=checkpoint)
    expected = make_model()
    fit(expected, *data, settings, Augment(), CPU)

    assert found[1].told == [(epoch, True) for epoch in range(done + 1, 5)]
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)
