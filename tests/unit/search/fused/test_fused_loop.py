"""Trainings as one program come to what each comes to alone."""

from typing import Any

import pytest
import torch
from tests.device.trainings import MODELS, SIDE
from torch import Tensor

from darkroom.config import Config, parse
from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.errors import TrainingError
from darkroom.models.registry import architectures
from darkroom.search.fused.loop import FusedLoop, _Program, group, why_not
from darkroom.search.fused.step import FusedStep
from darkroom.training.fit import start_classifier
from darkroom.training.loop import EpochMetrics, TrainingLoop

Settings = dict[str, Any]
CPU = torch.device("cpu")
# In float64, where only the order of summation differs.
CLOSE = 1e-10
IMAGES = 13  # a last batch that is smaller
# Values in which trials of one group may differ, each of them away from its default in one trial at least.
TRIALS: list[Settings] = [
    {"train.lr": 0.003, "train.weight_decay": 0.1, "train.seed": 5, "train.label_smoothing": 0.1},
    {"train.lr": 0.01, "train.schedule": "one-cycle", "train.clip_norm": 0.5, "augment.translate": 2},
    {"train.ema": 0.9, "train.class_weights": "balanced", "augment.mixup": 0.5, "train.momentum": 0.5},
    {"train.sampler": "balanced", "augment.cutmix": 1.0, "augment.flip": "random", "train.warmup_epochs": 1},
]
DROPOUTS = (0.0, 0.3, 0.6, 0.1)
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
TAKES_DROPOUT = {"mlp", "simple-cnn", "fast-cnn", "wide-resnet"}


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 3, (count,), generator=generator))


TRAIN = split(IMAGES, 0)
VAL = split(9, 1)
CARD = DatasetCard(
    name="made up", classes=("a", "b", "c"), shape=(1, SIDE, SIDE), mean=(0.5,), std=(0.3,),
    sizes={"train": IMAGES, "val": 9, "test": 0}, settings={}, fingerprint="0" * 64,
)  # fmt: skip


def configured(*changes: Settings) -> Config:
    written = parse({"train": {"epochs": 3, "batch_size": 8, "precision": "fp32", "device": "cpu"}}, where="")
    return written.with_settings({key: value for each in changes for key, value in each.items()})


def begin(config: Config, dtype: torch.dtype = torch.float64) -> TrainingLoop:
    model = start_classifier(config, CARD, TRAIN).to(dtype)
    return TrainingLoop(model, TRAIN, VAL, config.train, config.augment, CPU)


def alone(config: Config, epochs: int, dtype: torch.dtype = torch.float64) -> TrainingLoop:
    loop = begin(config, dtype)
    for _ in range(epochs):
        loop.run_epoch()
    return loop


def difference(loop: TrainingLoop, other: TrainingLoop) -> float:
    """The largest of any weight, buffer, average and metric, each relative to its size."""
    found = [
        relative(loop.validated_model.state_dict()[name], value)
        for name, value in other.validated_model.state_dict().items()
    ]
    found += [relative(loop.best_weights[name], value) for name, value in other.best_weights.items()]
    for metrics, expected in zip(loop.result.history, other.result.history, strict=True):
        for name, value in vars(expected).items():
            if name != "seconds":
                found.append(relative(torch.tensor(vars(metrics)[name]), torch.tensor(value)))
    return max(found)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1))


def trials(model: str, **changes: Any) -> list[Config]:
    dropouts = DROPOUTS if model in TAKES_DROPOUT else (None,) * len(TRIALS)
    return [
        configured(MODELS[model], values, {"model.dropout": dropout}, changes)
        for values, dropout in zip(TRIALS, dropouts, strict=True)
    ]


# Each trial of a group has an optimizer of its own, and another one in each turn.
@pytest.mark.parametrize("turn", [0, *(pytest.param(turn, marks=pytest.mark.long) for turn in (1, 2, 3))])
@pytest.mark.parametrize("model", MODELS)
def test_each_training_comes_to_what_it_comes_to_alone(model: str, turn: int) -> None:
    first = list(MODELS).index(model) + turn
    configs = [
        config.with_settings({"train.optimizer": OPTIMIZERS[(first + number) % len(OPTIMIZERS)]})
        for number, config in enumerate(trials(model))
    ]
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(configs):
        together.add(name, begin(config))

    for _ in range(2):
        together.run_epoch()

    for name, config in enumerate(configs):
        assert difference(together.loops[name], alone(config, 2)) < CLOSE


def test_trainings_without_a_smaller_last_batch_are_as_alone() -> None:
    configs = trials("mlp", **{"train.drop_last": True})
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(configs):
        together.add(name, begin(config))

    found = together.run_epoch()

    for name, config in enumerate(configs):
        single = alone(config, 1)
        assert difference(together.loops[name], single) < CLOSE
        metrics = found[name]
        assert isinstance(metrics, EpochMetrics)
        assert metrics.train_loss == pytest.approx(single.result.history[0].train_loss)


def test_trainings_of_other_numbers_of_steps_are_of_other_groups() -> None:
    assert group(configured({"train.drop_last": True})) != group(configured())


def test_every_architecture_but_pretrained_is_compared() -> None:
    compared = {settings["model.name"] for settings in MODELS.values()}

    # Its head alone is an mlp.
    trained = [configured({"model.name": name, "model.train": "all"}) for name in architectures()]
    assert compared == {each.model.name for each in trained if why_not(each) is None}
    assert set(architectures()) - compared == {"pretrained"}
    assert why_not(configured({"model.name": "pretrained"})) is None


def test_a_training_that_begins_half_way_and_one_that_outlives_others_are_as_alone() -> None:
    first, second, third, last = trials("simple-cnn")
    together: FusedLoop[str] = FusedLoop()
    together.add("first", begin(first))
    together.add("second", begin(second))
    together.run_epoch()
    together.remove("first")
    together.add("third", begin(third))
    together.run_epoch()
    together.add("last", begin(last))
    together.run_epoch()
    outlived = together.loops["second"]
    together.remove("second")
    together.remove("third")
    together.run_epoch()

    assert difference(outlived, alone(second, 3)) < CLOSE
    assert difference(together.loops["last"], alone(last, 2)) < CLOSE


@pytest.mark.parametrize("dropouts", [(0.0, 0.0), (0.0, 0.5)], ids=["without dropout", "with dropout"])
def test_batches_in_parts_give_the_gradient_of_the_whole(dropouts: tuple[float, float]) -> None:
    configs = [
        configured(MODELS["mlp"], TRIALS[number], {"model.dropout": dropout, "train.accumulate": 3})
        for number, dropout in enumerate(dropouts)
    ]
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(configs):
        together.add(name, begin(config))

    together.run_epoch()

    for name, config in enumerate(configs):
        assert difference(together.loops[name], alone(config, 1)) < CLOSE


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_what_is_frozen_in_one_training_and_not_in_another_learns_as_alone(optimizer: str) -> None:
    parts = {"model.activation": "gelu", "model.freeze_norm_scale": True, "model.whitening_epochs": 1}
    own = [{"train.bias_lr": 0.02}, {"train.head_lr": 0.05, "train.clip_norm": 0.5}]
    first, second = (configured(MODELS["fast-cnn"], parts, {"train.optimizer": optimizer}, each) for each in own)
    together: FusedLoop[str] = FusedLoop()
    together.add("first", begin(first))
    together.run_epoch()
    together.add("second", begin(second))
    together.run_epoch()

    assert difference(together.loops["first"], alone(first, 2)) < CLOSE
    assert difference(together.loops["second"], alone(second, 1)) < CLOSE


@pytest.mark.parametrize("room", [1, 2, 3])
def test_where_memory_does_not_suffice_fewer_are_one_program_and_learn_the_same(monkeypatch, room: int) -> None:
    configs, sizes = trials("mlp"), []
    step = FusedStep.__call__

    def short_of_memory(self: FusedStep, *given: Any) -> Any:
        found = step(self, *given)
        sizes.append(len(self.loops))
        # In the second step of an epoch, when the first has changed the weights.
        if len(self.loops) > room and len(sizes) % 2 == 0:
            raise torch.OutOfMemoryError("out of memory")
        return found

    monkeypatch.setattr(FusedStep, "__call__", short_of_memory)
    monkeypatch.setattr(_Program, "may_run_out", property(lambda program: program._step is None))
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(configs):
        together.add(name, begin(config))
    for _ in range(2):
        assert list(together.run_epoch()) == [0, 1, 2, 3]

    for name, config in enumerate(configs):
        assert difference(together.loops[name], alone(config, 2)) < CLOSE
    assert sizes[-1] == min(room, 2)


def test_copies_to_come_back_to_take_the_memory_of_the_weights_once() -> None:
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(trials("mlp")):
        together.add(name, begin(config))
    together.run_epoch()  # after which the weights of all lie in stacks
    (program,) = together._programs

    def held(states: list[dict[str, Tensor]]) -> int:
        storages = {each.untyped_storage() for state in states for each in state.values()}
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    assert held([state["model"] for state, _ in program.state()]) == held(
        [loop.model.state_dict() for loop in together.loops.values()]
    )


def test_memory_that_does_not_suffice_for_one_is_told(monkeypatch) -> None:
    def no_memory(self: FusedStep, *given: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(FusedStep, "__call__", no_memory)
    monkeypatch.setattr(_Program, "may_run_out", True)
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(trials("mlp")):
        together.add(name, begin(config))

    with pytest.raises(torch.OutOfMemoryError):
        together.run_epoch()


def test_in_float32_trainings_drift_apart_by_rounding_alone() -> None:
    configs = trials("mlp", **{"train.optimizer": "sgd"})
    together: FusedLoop[int] = FusedLoop()
    for name, config in enumerate(configs):
        together.add(name, begin(config, torch.float32))

    together.run_epoch()

    drifts = [difference(together.loops[name], alone(config, 1, torch.float32)) for name, config in enumerate(configs)]
    assert max(drifts) < 1e-5


def test_one_that_diverges_does_not_touch_the_others() -> None:
    good = configured(MODELS["mlp"], TRIALS[0])
    bad = configured(MODELS["mlp"], {"train.optimizer": "sgd", "train.lr": 100.0, "train.weight_decay": 10.0})
    together: FusedLoop[str] = FusedLoop()
    together.add("bad", begin(bad, torch.float32))
    together.add("good", begin(good, torch.float32))

    for _ in range(20):
        ended = together.run_epoch()
        if isinstance(ended["bad"], TrainingError):
            break

    assert isinstance(ended["bad"], TrainingError)
    assert "the loss is no longer finite" in str(ended["bad"])
    assert isinstance(ended["good"], EpochMetrics)


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"train.lr": 0.5}, True),
        ({"train.optimizer": "muon"}, True),
        ({"model.dropout": 0.5}, True),
        ({"augment.rotate": 5.0}, True),
        ({"train.seed": 3}, True),
        ({"model.hidden": [7]}, False),
        ({"train.batch_size": 4}, False),
        ({"train.accumulate": 2}, False),
    ],
    ids=lambda value: str(value),
)
def test_a_group_holds_what_differs_in_values_and_not_in_shapes(change: Settings, is_same: bool) -> None:
    assert (group(configured(MODELS["mlp"], change)) == group(configured(MODELS["mlp"]))) is is_same


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"model.name": "pretrained", "model.train": "all"},
            "the layers of a pretrained model learn from epochs of their own",
        ),
        ({"train.compile": "default"}, "train.compile is for a single model"),
    ],
    ids=["pretrained", "compiled"],
)
def test_what_cannot_be_fused_says_why(change: Settings, reason: str) -> None:
    assert why_not(configured(change)) == reason
