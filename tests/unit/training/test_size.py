"""A model that is too large for the machine, or takes very long, is told of before any work begins."""

from typing import Any

import pytest
import torch

from darkroom.config import Config, parse
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.models.classifier import build_classifier
from darkroom.models.registry import architectures
from darkroom.training import size
from darkroom.training.size import check_size, count_parameters, least_bytes, measure, resource_warning
from darkroom.utils.units import GIBIBYTE

CPU = torch.device("cpu")
CARD = DatasetCard("small", ("a", "b"), (1, 28, 28), (0.2,), (0.3,), {"train": 1000}, {}, fingerprint="0" * 64)


def config(name: str = "mlp", train: dict[str, Any] | None = None, **model: Any) -> Config:
    return parse({"model": {"name": name, **model}, "train": train or {}}, where="")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(total: int = 64 * GIBIBYTE, free: int = 32 * GIBIBYTE, rate: float = 1e15) -> None:
        monkeypatch.setattr(size, "total_bytes", lambda: total)
        monkeypatch.setattr(size, "free_bytes", lambda: free)
        monkeypatch.setattr(size, "_rate", lambda device: rate)

    return make


@pytest.mark.parametrize("name", sorted(set(architectures()) - {"pretrained"}))
def test_the_parameters_are_counted_without_building_them(name: str) -> None:
    settings = config(name).model
    before = torch.get_rng_state()

    counted = count_parameters(settings, CARD.shape, len(CARD.classes))
    measure(settings, CARD.shape, len(CARD.classes))

    assert torch.equal(torch.get_rng_state(), before)
    assert counted == sum(each.numel() for each in build_classifier(settings, CARD).parameters())


def test_a_network_that_cannot_be_built_without_memory_is_counted_too() -> None:
    settings = config("pretrained", backbone="regnet_y_400mf").model
    before = torch.get_rng_state()

    counted = count_parameters(settings, (3, 32, 32), 1000)

    assert counted == 4_344_144  # as torchvision publishes
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_dense_layer_takes() -> None:
    work = measure(config(hidden=[16]).model, CARD.shape, 2)

    assert work.operations == 2 * (784 * 16 + 16 * 2)
    # The pixels, the layer, its activation, the logits; without dropout nothing else.
    assert work.outputs in (784 + 16 + 16 + 2, 784 + 16 + 16 + 16 + 2)


@pytest.mark.parametrize(("train", "copies"), [({}, 5), ({"optimizer": "sgd"}, 4), ({"ema": 0.9}, 6)])
def test_a_training_keeps_copies_of_the_weights(train: dict[str, Any], copies: int) -> None:
    assert least_bytes(1000, config(train=train).train) == 4 * 1000 * copies


def test_a_model_beyond_the_memory_is_refused_with_its_bytes(machine: Any) -> None:
    machine(total=4 * GIBIBYTE)
    huge = config("simple-cnn", filters=[64], hidden=[65_536] * 3)
    wide = 65_536
    parameters = (9 + 1) * 64 + (64 * 14 * 14 + 1) * wide + 2 * (wide + 1) * wide + (wide + 1) * 2
    message = (
        rf"^model: simple-cnn has {parameters:,} parameters here, and training them takes at least 175\.3 GiB; this "
        r"machine has 4\.0 GiB; lower model\.filters or model\.hidden$"
    )
    for check in (check_size, resource_warning):
        with pytest.raises(ModelError, match=message):
            check(huge, CARD, CPU)


def test_a_step_that_may_not_find_memory_is_told(machine: Any) -> None:
    machine(free=1 << 20)

    told = resource_warning(config(), CARD, CPU)

    assert told
    assert told.startswith("mlp has 234,")
    assert "a step may take about 0.0 GiB, and 0.0 GiB is free on this machine" in told
    assert "lower train.batch_size or model.hidden, or raise train.accumulate" in told
    assert "an epoch" not in told


@pytest.mark.parametrize(("rate", "told"), [(1e10, "30 minutes"), (1e9, "5 hours"), (1e8, "2 days"), (1e12, None)])
def test_a_long_epoch_is_told(machine: Any, rate: float, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(rate=rate)
    # 1.8e13 operations in an epoch.
    monkeypatch.setattr(size, "measure", lambda *model: size.CostPerImage(outputs=10, operations=6_000_000_000))

    said = resource_warning(config(), CARD, CPU)

    parameters = (784 + 1) * 256 + (256 + 1) * 128 + (128 + 1) * 2
    assert said == (told and f"mlp has {parameters:,} parameters: an epoch takes about {told} or longer")


def test_an_ordinary_model_is_not_told_of(machine: Any) -> None:
    machine()

    assert resource_warning(config("simple-cnn"), CARD, CPU) is None


def test_the_machine_is_measured() -> None:
    assert size._rate(CPU) > 0
