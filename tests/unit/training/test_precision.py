"""`train.precision: auto` takes what is fastest, and the same every time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from darkroom.config import Config, parse
from darkroom.data.cache import DatasetCard
from darkroom.errors import ConfigError
from darkroom.training import precision as module
from darkroom.training.precision import Precision, fastest_precision, step_seconds

CPU = torch.device("cpu")
BOTH = ("fp32", "bf16")


@pytest.fixture
def card(make_card: Callable[..., DatasetCard]) -> DatasetCard:
    return make_card()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DARKROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "precisions", lambda device: BOTH)
    return tmp_path / "cache"


@pytest.fixture
def measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What each measurement finds, the last first; by default bf16 takes half the time."""
    found: list[dict[str, float]] = []
    default = {"fp32": 0.002, "bf16": 0.001}
    monkeypatch.setattr(module, "step_seconds", lambda *given: found.pop() if found else default)
    return found


def config(**changes: object) -> Config:
    given = {
        "model.name": "mlp",
        "model.hidden": [4],
        **{key.replace("__", "."): each for key, each in changes.items()},
    }
    return parse({}, where="").with_settings(given)


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"), [(1.0, 0.5, "bf16"), (1.0, 2.0, "fp32"), (1.0, 0.98, "fp32"), (1.0, 0.96, "bf16")]
)
def test_the_fastest_is_taken_and_fp32_unless_the_gain_is_more_than_chance(
    measured: list[dict[str, float]], card: DatasetCard, fp32: float, bf16: float, expected: str
) -> None:
    measured.append({"fp32": fp32, "bf16": bf16})
    found = fastest_precision(config(), card, CPU)

    assert found == Precision(expected, {"fp32": fp32, "bf16": bf16})
    assert found.tags() == {"system.step_seconds": {"fp32": fp32, "bf16": bf16}}


def test_the_choice_is_kept(measured: list[dict[str, float]], card: DatasetCard) -> None:
    first = fastest_precision(config(), card, CPU)
    measured.append({"fp32": 1.0, "bf16": 2.0})

    assert fastest_precision(config(train__lr=0.5, train__epochs=3), card, CPU) == first
    assert measured  # nothing was measured again


@pytest.mark.parametrize(
    "change", [{"model__hidden": [5]}, {"train__batch_size": 8}, {"train__optimizer": "sgd"}, {"augment__translate": 1}]
)
def test_another_model_batch_or_step_is_measured_anew(
    measured: list[dict[str, float]], card: DatasetCard, change: dict[str, object]
) -> None:
    fastest_precision(config(), card, CPU)
    measured.append({"fp32": 1.0, "bf16": 2.0})

    assert fastest_precision(config(**change), card, CPU).name == "fp32"


def test_other_threads_are_measured_anew(measured: list[dict[str, float]], card: DatasetCard) -> None:
    fastest_precision(config(), card, CPU, threads=1)
    measured.append({"fp32": 1.0, "bf16": 2.0})

    assert fastest_precision(config(), card, CPU, threads=2).name == "fp32"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": "fp8", "step_seconds": {}}', b"\x00\xff"])
def test_a_damaged_record_is_written_anew(
    measured: list[dict[str, float]], cache: Path, card: DatasetCard, content: bytes
) -> None:
    first = fastest_precision(config(), card, CPU)
    (kept,) = (cache / "precision").iterdir()
    kept.write_bytes(content)

    assert fastest_precision(config(), card, CPU) == first
    assert json.loads(kept.read_bytes())["name"] == "bf16"
    assert [path.suffix for path in kept.parent.iterdir()] == [".json"]


def test_of_two_that_choose_at_once_both_take_what_the_first_has_written(
    cache: Path, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: object) -> dict[str, float]:
        monkeypatch.setattr(module, "step_seconds", lambda *given: {"fp32": 1.0, "bf16": 2.0})
        fastest_precision(config(), card, CPU)
        return {"fp32": 2.0, "bf16": 1.0}

    monkeypatch.setattr(module, "step_seconds", meanwhile)

    assert fastest_precision(config(), card, CPU).name == "fp32"


def test_without_a_place_to_keep_it_the_choice_is_made_each_time(
    measured: list[dict[str, float]], card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DARKROOM_CACHE", str(tmp_path / "file"))

    assert fastest_precision(config(), card, CPU).name == "bf16"
    measured.append({"fp32": 1.0, "bf16": 2.0})
    assert fastest_precision(config(), card, CPU).name == "fp32"


def test_what_is_written_is_taken_as_it_is(card: DatasetCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_seconds", None)

    assert fastest_precision(config(train__precision="bf16"), card, CPU) == Precision("bf16", {})
    assert Precision("bf16", {}).tags() == {}


def test_where_there_is_one_nothing_is_measured(card: DatasetCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "precisions", lambda device: ("fp32",))
    monkeypatch.setattr(module, "step_seconds", None)

    assert fastest_precision(config(), card, CPU) == Precision("fp32", {})


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_a_gpus_precision_is_refused_on_a_cpu(card: DatasetCard, name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^train\.precision: {name} needs a CUDA GPU, and this trains on cpu; choose auto, bf16 or fp32$",
    ):
        fastest_precision(config(train__precision=name), card, CPU)


def test_measuring_leaves_generators_and_threads_as_they_were(card: DatasetCard) -> None:
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()

    found = step_seconds(config(train__batch_size=8), card, CPU, BOTH, threads=2)

    assert set(found) == set(BOTH)
    assert all(seconds > 0 for seconds in found.values())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_every_kind_of_step_can_be_measured(card: DatasetCard) -> None:
    settings = {"train__accumulate": 2, "train__optimizer": "muon", "train__ema": 0.9, "augment__mixup": 0.2}
    balanced = {"train__sampler": "balanced", "train__schedule": "one-cycle", "train__epochs": 1}

    assert step_seconds(config(**settings, **balanced), card, CPU, BOTH, threads=1).keys() == set(BOTH)
