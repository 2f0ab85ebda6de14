"""Processes that share a training come to what one process comes to with the same batches."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.device.backbone import TinyBackbone
from tests.device.trainings import ALL_MODELS
from tests.group import Group
from tests.unit.training.shared_trainings import train, train_alone

DROPOUT = {"mlp": 0.2, "simple-cnn": 0.25, "fast-cnn": 0.1, "wide-resnet": 0.1}
CHANGES = {
    "geometry": {"flip": "random", "flip_vertical": True, "rotate": 20.0, "scale": 0.1, "shear": 5.0, "translate": 2},
    "alternating": {"flip": "alternating", "crop_scale": [0.3, 1.0]},
    "color": {"brightness": 0.3, "contrast": 0.4, "blur": 1.0, "erasing": 0.5},
    "policy": {"policy": "trivial", "cutout": 5},
    "mixup": {"mixup": 0.8, "translate": 2},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.4, "cutmix": 1.0, "flip": "random"},
}
SETTINGS = {
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "lr": 0.05, "clip_norm": 0.5},
    "muon": {"optimizer": "muon", "lr": 0.01, "bias_lr": 0.02, "ema": 0.9},
    "average": {"ema": 0.7, "schedule": "one-cycle", "label_smoothing": 0.1},
    "weighted": {"class_weights": "balanced", "accumulate": 2},
    "sampled": {"sampler": "balanced", "drop_last": True},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("shared")
    TinyBackbone(folder).fetch()
    return folder


@pytest.fixture(scope="module")
def two(folder: Any) -> Iterator[Group]:
    with Group(2, folder) as group:
        yield group


@pytest.fixture(scope="module")
def three(folder: Any) -> Iterator[Group]:
    with Group(3, folder) as group:
        yield group


def assert_same(group: Group, folder: Any, model: str, changes: dict[str, Any], count: int = 20) -> int:
    """Returns the number of epochs."""
    weights, history, drawn = train_alone(folder, model, changes, count)
    for shared, metrics, state in group.run(train, folder, model, changes, count):
        for name, value in weights.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-10, atol=1e-10)
        assert len(metrics) == len(history)
        for own, expected in zip(metrics, history, strict=True):
            # What is reported is added up in float32.
            assert own == pytest.approx(expected, rel=1e-6)
        assert state == drawn
    return len(history)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_every_architecture_learns_the_same(two: Group, folder: Any, model: str) -> None:
    # The last batch of an epoch has 4 images, and that of the next test one that no two processes can divide.
    assert_same(two, folder, model, {"model__dropout": DROPOUT[model]} if model in DROPOUT else {})


@pytest.mark.parametrize("augment", CHANGES.values(), ids=CHANGES)
def test_images_change_and_mix_the_same(two: Group, folder: Any, augment: dict[str, Any]) -> None:
    changes = {f"augment__{key}": value for key, value in augment.items()}
    assert_same(two, folder, "simple-cnn", {**changes, "train__class_weights": "balanced"}, count=21)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_has_the_same_effect(two: Group, folder: Any, settings: dict[str, Any]) -> None:
    assert_same(two, folder, "fast-cnn", {f"train__{key}": value for key, value in settings.items()}, count=21)


def test_they_stop_after_the_same_epoch(two: Group, folder: Any) -> None:
    settings = {"train__patience": 1, "train__epochs": 12, "train__lr": 0.02}
    assert 1 < assert_same(two, folder, "mlp", settings, count=21) < 12


@pytest.mark.parametrize("model", ["simple-cnn", "wide-resnet"])
def test_three_processes_share_batches_that_go_through_the_model_in_parts(
    three: Group, folder: Any, model: str
) -> None:
    # Parts of 6 and 6 images, and of 3 and 3, then of 2 and 1.
    changes = {
        "train__batch_size": 12, "train__accumulate": 2, "augment__mixup": 0.5, "augment__translate": 1,
        "model__dropout": 0.2,
    }  # fmt: skip
    assert_same(three, folder, model, changes, count=33)
    assert_same(three, folder, model, changes, count=18)
