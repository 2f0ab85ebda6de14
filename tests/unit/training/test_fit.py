"""The training loop does what a plain loop does, keeps the best epoch, and knows when to stop."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from darkroom.config import Config, parse
from darkroom.config.settings import Augment, Model, Train
from darkroom.data.batches import Split, TrainBatches
from darkroom.errors import TrainingError
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.training import loop as module
from darkroom.training.fit import fit, train_classifier
from darkroom.training.loop import EpochMetrics, FitResult, evaluate
from darkroom.training.step import TrainStep

CPU = torch.device("cpu")
CHANCE = 1 / 3
FIGURES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")


def train_settings(**settings: Any) -> Train:
    return Train(**{"device": "cpu", "precision": "fp32", "batch_size": 16, "epochs": 3, **settings})


@pytest.fixture
def classifier(make_card) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(Model(name="mlp", hidden=(16,)), make_card())


@pytest.fixture
def data(make_split) -> tuple[Split, Split]:
    # 50 images in batches of 16 leave a smaller last one.
    return make_split(50, seed=1), make_split(24, seed=2)


def wreck(model: nn.Module) -> None:
    """Make the model answer the same for every image."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def rate(settings: Train, step: int, steps_per_epoch: int) -> float:
    total, warmup = settings.epochs * steps_per_epoch, settings.warmup_epochs * steps_per_epoch
    if settings.schedule == "one-cycle":
        peak = 0.3 * total - 1
        start, end = settings.lr / 25, settings.lr / 25 / 1e4
        if step <= peak:
            return settings.lr + (start - settings.lr) / 2 * (1 + math.cos(math.pi * step / peak))
        return end + (settings.lr - end) / 2 * (1 + math.cos(math.pi * (step - peak) / (total - 1 - peak)))
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        return settings.lr / 2 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return settings.lr


def plain_optimizer(model: nn.Module, settings: Train) -> optim.Optimizer:
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return optim.SGD(
            model.parameters(), settings.lr, settings.momentum, weight_decay=decay, nesterov=True, foreach=False
        )
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[settings.optimizer]
    return kind(model.parameters(), settings.lr, weight_decay=decay, foreach=False)


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    logs = logits.log_softmax(1)
    own = logs[torch.arange(len(labels)), labels]
    return -((1 - smoothing) * own + smoothing * logs.mean(1)).mean()


def plain_training(
    model: nn.Module, train: Split, val: Split, settings: Train
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The same training by hand: its metrics and the weights of its best epoch."""
    batches = TrainBatches(train, settings.batch_size, Augment(), settings.seed)
    optimizer = plain_optimizer(model, settings)
    history: list[dict[str, float]] = []
    kept: list[tuple[tuple[float, float], dict[str, Tensor]]] = []
    step = 0
    for _ in range(settings.epochs):
        loss_sum = correct = 0.0
        for images, labels in batches:
            lr = optimizer.param_groups[0]["lr"] = rate(settings, step, len(batches))
            step += 1
            logits = model.train()(images)
            loss = smoothed_loss(logits, labels, settings.label_smoothing)
            model.zero_grad()
            loss.backward()
            if settings.clip_norm is not None:
                norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
                for parameter in model.parameters():
                    parameter.grad *= min(1.0, settings.clip_norm / norm)
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
        with torch.no_grad():
            logits = model.eval()(val.images)
        val_loss = smoothed_loss(logits, val.labels, 0.0).item()
        val_accuracy = (logits.argmax(1) == val.labels).double().mean().item()
        row = (loss_sum / len(train), correct / len(train), val_loss, val_accuracy, lr)
        history.append(dict(zip(FIGURES, row, strict=True)))
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        kept.append(((-val_accuracy, val_loss), weights))
    return history, min(kept, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "lr": 0.05},
        {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
        {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1},
        {"schedule": "constant"},
        {"schedule": "constant", "warmup_epochs": 1},
        {"schedule": "cosine", "warmup_epochs": 2},
        {"schedule": "one-cycle", "lr": 0.01},
        {"label_smoothing": 0.2},
        {"optimizer": "sgd", "lr": 0.05, "clip_norm": 0.3},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_the_loop_is_the_plain_loop(classifier, make_card, data, changes: dict[str, Any]) -> None:
    settings = train_settings(**changes)
    torch.manual_seed(0)
    by_hand = build_classifier(Model(name="mlp", hidden=(16,)), make_card())
    expected, weights = plain_training(by_hand, *data, settings)

    result = fit(classifier, *data, settings, Augment(), CPU)

    found = [{key: asdict(metrics)[key] for key in FIGURES} for metrics in result.history]
    for row, expected_row in zip(found, expected, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-4, abs=1e-9)
    for key, value in classifier.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(
    "changes",
    [
        {"label_smoothing": 0.2},
        {"clip_norm": 0.01},
        {"weight_decay": 1.0},
        {"seed": 1},
        {"optimizer": "muon"},
        {"ema": 0.5},
        {"class_weights": "balanced"},
        {"sampler": "balanced"},
    ],
    ids=str,
)
def test_a_setting_changes_the_training(classifier, make_card, data, changes: dict[str, Any]) -> None:
    settings = {"optimizer": "sgd", "lr": 0.05, "epochs": 1}
    torch.manual_seed(0)
    other = build_classifier(Model(name="mlp", hidden=(16,)), make_card())

    fit(classifier, *data, train_settings(**settings), Augment(), CPU)
    fit(other, *data, train_settings(**settings | changes), Augment(), CPU)

    assert not torch.equal(classifier.state_dict()["network.1.weight"], other.state_dict()["network.1.weight"])


@pytest.mark.parametrize("name", ["mlp", "simple-cnn"])
def test_a_network_learns_what_the_nearest_mean_can_tell(make_card, make_split, name: str) -> None:
    train, val = make_split(120, noise=120, seed=1), make_split(60, noise=120, seed=2)
    means = torch.stack([train.images[train.labels == label].float().mean(0) for label in range(3)])
    nearest = (val.images.float()[:, None] - means).square().sum((2, 3, 4)).argmin(1)
    bound = (nearest == val.labels).double().mean().item()
    torch.manual_seed(0)
    model = build_classifier(Model(name=name, dropout=0.1), make_card())

    result = fit(model, train, val, train_settings(epochs=8), Augment(), CPU)

    assert bound > 0.9
    assert result.best.val_accuracy >= bound - 0.05
    assert result.history[-1].train_loss < 0.5 * result.history[0].train_loss


@pytest.mark.parametrize("batch", [7, 24, 1000])
def test_the_validation_figures_do_not_depend_on_its_batches(
    monkeypatch: pytest.MonkeyPatch, classifier, data, batch: int
) -> None:
    monkeypatch.setattr(module, "VALIDATION_BATCH", batch)
    val = data[1]
    with torch.no_grad():
        logs = classifier.eval()(val.images).double().log_softmax(1)
    expected = (
        -logs[torch.arange(24), val.labels].mean().item(),
        (logs.argmax(1) == val.labels).double().mean().item(),
    )

    assert evaluate(classifier, val, CPU) == pytest.approx(expected, rel=1e-6)


def test_validation_is_without_dropout_and_gradients(make_card, data) -> None:
    model = build_classifier(Model(name="mlp", dropout=0.9), make_card()).train()

    assert evaluate(model, data[1], CPU) == evaluate(model, data[1], CPU)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_weights_of_the_best_epoch_are_kept(classifier, data) -> None:
    steps_per_epoch, weights = 4, {}
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        if steps > 2 * steps_per_epoch:
            wreck(classifier)

    def on_epoch(metrics: EpochMetrics) -> None:
        weights[metrics.epoch] = {key: value.clone() for key, value in classifier.state_dict().items()}

    result = fit(classifier, *data, train_settings(epochs=4), Augment(), CPU, on_epoch=on_epoch, on_step=on_step)

    assert result.history[-1].val_accuracy == pytest.approx(CHANCE)
    assert result.best.epoch == 2
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, weights[2][key])


def test_afterwards_the_model_is_ready_to_answer(classifier, data) -> None:
    fit(classifier, *data, train_settings(epochs=1), Augment(), CPU)

    assert not classifier.training
    assert {parameter.device for parameter in classifier.parameters()} == {CPU}


def epochs(*metrics: tuple[float, float]) -> list[EpochMetrics]:
    """Epochs with the given validation accuracies and losses."""
    return [
        EpochMetrics(number, 1.0, 0.5, loss, accuracy, 0.1, 1.0) for number, (accuracy, loss) in enumerate(metrics, 1)
    ]


@pytest.mark.parametrize(
    ("monitor", "metrics", "best"),
    [
        ("accuracy", [(0.8, 1.0), (0.9, 5.0), (0.7, 0.1)], 2),
        ("accuracy", [(0.9, 0.5), (0.9, 0.4), (0.9, 0.6)], 2),
        ("accuracy", [(0.9, 0.5), (0.9, 0.5)], 1),
        ("loss", [(0.8, 1.0), (0.9, 5.0), (0.7, 0.1)], 3),
        ("loss", [(0.8, 0.5), (0.9, 0.5)], 1),
    ],
)
def test_the_best_epoch_is_that_of_the_monitored_metric_then_of_less_loss_then_the_first(
    monitor: str, metrics: list[tuple[float, float]], best: int
) -> None:
    assert FitResult(monitor, epochs(*metrics)).best.epoch == best


def stopping_after(epoch: int, model: nn.Module, steps_per_epoch: int = 4) -> Callable[[], None]:
    """An ``on_step`` under which no epoch after ``epoch`` is better."""
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        if steps > epoch * steps_per_epoch:
            wreck(model)

    return on_step


@pytest.mark.parametrize(("patience", "best"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("monitor", ["accuracy", "loss"])
def test_training_stops_when_patience_is_at_its_end(classifier, data, monitor: str, patience: int, best: int) -> None:
    settings = train_settings(epochs=9, patience=patience, monitor=monitor)

    result = fit(classifier, *data, settings, Augment(), CPU, on_step=stopping_after(best, classifier))

    assert result.stopped_early
    assert result.best.epoch == best
    assert len(result.history) == best + patience


def test_patience_that_ends_with_the_last_epoch_stops_nothing(classifier, data) -> None:
    settings = train_settings(epochs=3, patience=2)

    result = fit(classifier, *data, settings, Augment(), CPU, on_step=stopping_after(1, classifier))

    assert (result.best.epoch, len(result.history), result.stopped_early) == (1, 3, False)


def test_without_patience_every_epoch_is_trained(classifier, data) -> None:
    result = fit(classifier, *data, train_settings(epochs=6), Augment(), CPU, on_step=stopping_after(1, classifier))

    assert (len(result.history), result.stopped_early) == (6, False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training_with_its_epoch_and_rate(classifier, data, value: float) -> None:
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            classifier.network[1].bias.data.fill_(value)

    with pytest.raises(
        TrainingError,
        match=r"^epoch 2: the loss is no longer finite \(train nan, validation nan\); lower train\.lr \(now 0\.003\)",
    ):
        fit(classifier, *data, train_settings(lr=0.003), Augment(), CPU, on_step=on_step)


def test_each_epoch_and_each_step_is_told_once_in_order(classifier, data) -> None:
    told: list[int] = []
    steps: list[int] = []

    result = fit(
        classifier,
        *data,
        train_settings(epochs=3),
        Augment(),
        CPU,
        on_epoch=lambda metrics: told.append(metrics.epoch),
        on_step=lambda: steps.append(len(told)),
    )

    assert told == [metrics.epoch for metrics in result.history] == [1, 2, 3]
    assert steps == [0] * 4 + [1] * 4 + [2] * 4


def test_every_step_of_every_epoch_is_taken_in_training_mode(classifier, data) -> None:
    modes: list[bool] = []

    fit(classifier, *data, train_settings(epochs=2), Augment(), CPU, on_step=lambda: modes.append(classifier.training))

    assert modes == [True] * 8


def test_what_on_epoch_raises_ends_the_training(classifier, data) -> None:
    def stop(metrics: EpochMetrics) -> None:
        raise InterruptedError(f"after {metrics.epoch}")

    with pytest.raises(InterruptedError, match="after 1"):
        fit(classifier, *data, train_settings(), Augment(), CPU, on_epoch=stop)


def test_a_batch_larger_than_the_split_is_the_whole_split(classifier, make_card, data) -> None:
    torch.manual_seed(0)
    other = build_classifier(Model(name="mlp", hidden=(16,)), make_card())
    steps: list[None] = []

    fit(classifier, *data, train_settings(batch_size=1000), Augment(), CPU, on_step=lambda: steps.append(None))
    fit(other, *data, train_settings(batch_size=50), Augment(), CPU)

    assert len(steps) == 3
    for found, expected in zip(classifier.parameters(), other.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_bfloat16_trains_too(classifier, data) -> None:
    result = fit(classifier, *data, train_settings(precision="bf16", epochs=6, lr=0.01), Augment(), CPU)

    assert result.best.val_accuracy > 2 * CHANCE
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


def whole(**train: Any) -> Config:
    return parse(
        {
            "model": {"name": "simple-cnn", "filters": 4, "hidden": 8, "dropout": 0.5},
            "augment": {"flip": "random", "translate": 1},
            "train": {"device": "cpu", "precision": "fp32", "batch_size": 16, "epochs": 2, **train},
        },
        where="",
    )


def test_a_seed_decides_the_whole_training(make_card, data) -> None:
    first, again = (train_classifier(whole(seed=3), make_card(), *data, CPU)[0] for _ in range(2))
    other = train_classifier(whole(seed=4), make_card(), *data, CPU)[0]

    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.state_dict()["network.0.weight"], other.state_dict()["network.0.weight"])


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
            r"the GPU has not enough memory \(2\.00 GiB wanted\)",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes."),
            r"not enough memory \(32\.0 GiB wanted, .* free\)",
        ),
        (MemoryError(), r"not enough memory \(.* free\)"),
    ],
    ids=["gpu", "cpu", "python"],
)
def test_memory_that_does_not_suffice_is_told_with_what_to_lower(classifier, data, monkeypatch, problem, said) -> None:
    def no_memory(*given: Any) -> Any:
        raise problem

    monkeypatch.setattr(TrainStep, "__call__", no_memory)
    message = (
        rf"^{said}; lower train\.batch_size \(now 16\), raise train\.accumulate \(now 2\), or lower "
        r"preprocess\.image_size or the sizes of the model, such as model\.filters$"
    )
    with pytest.raises(TrainingError, match=message):
        fit(classifier, *data, Train(device="cpu", batch_size=16, accumulate=2, epochs=1), Augment(), CPU)


def test_another_failure_of_a_step_stays_what_it_is(classifier, data, monkeypatch) -> None:
    def fail(*given: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(TrainStep, "__call__", fail)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        fit(classifier, *data, Train(device="cpu", epochs=1), Augment(), CPU)
