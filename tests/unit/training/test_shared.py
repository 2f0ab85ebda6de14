"""Processes that share a training come to what one process comes to with the same batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.device.backbone import TinyBackbone
from tests.device.trainings import ALL_MODELS
from tests.group import Group
from tests.unit.training.shared_trainings import (
    LAYERS,
    difference_of_a_part,
    disagree,
    resume_without_a_shared_folder,
    train,
    train_alone,
    train_interrupted,
)

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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    TinyBackbone(folder).fetch()
    return folder


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Group]:
    with Group(2, folder) as group:
        yield group


@pytest.fixture(scope="module")
def three(folder: Path) -> Iterator[Group]:
    with Group(3, folder) as group:
        yield group


def assert_same(group: Group, folder: Path, model: str, changes: dict[str, Any], count: int = 20) -> int:
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
def test_every_architecture_learns_the_same(two: Group, folder: Path, model: str) -> None:
    # The last batch of an epoch has 4 images, and that of the next test one that no two processes can divide.
    assert_same(two, folder, model, {"model__dropout": DROPOUT[model]} if model in DROPOUT else {})


@pytest.mark.parametrize("augment", CHANGES.values(), ids=CHANGES)
def test_images_change_and_mix_the_same(two: Group, folder: Path, augment: dict[str, Any]) -> None:
    changes = {f"augment__{key}": value for key, value in augment.items()}
    assert_same(two, folder, "simple-cnn", {**changes, "train__class_weights": "balanced"}, count=21)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_has_the_same_effect(two: Group, folder: Path, settings: dict[str, Any]) -> None:
    assert_same(two, folder, "fast-cnn", {f"train__{key}": value for key, value in settings.items()}, count=21)


def test_they_stop_after_the_same_epoch(two: Group, folder: Path) -> None:
    settings = {"train__patience": 1, "train__epochs": 12, "train__lr": 0.02}
    assert 1 < assert_same(two, folder, "mlp", settings, count=21) < 12


@pytest.mark.parametrize("model", ["simple-cnn", "wide-resnet"])
def test_three_processes_share_batches_that_go_through_the_model_in_parts(
    three: Group, folder: Path, model: str
) -> None:
    # Parts of 6 and 6 images, and of 3 and 3, then of 2 and 1.
    changes = {
        "train__batch_size": 12, "train__accumulate": 2, "augment__mixup": 0.5, "augment__translate": 1,
        "model__dropout": 0.2,
    }  # fmt: skip
    assert_same(three, folder, model, changes, count=33)
    assert_same(three, folder, model, changes, count=18)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"])
def test_a_layer_makes_of_a_part_what_it_makes_of_it_in_the_whole(
    three: Group, layer: str, layout: torch.memory_format
) -> None:
    for difference, same_state in three.run(difference_of_a_part, layer, layout):
        assert difference < 1e-12
        assert same_state


# --- interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["simple-cnn", "fast-cnn"])
def test_an_interrupted_training_ends_with_the_same_bits(two: Group, folder: Path, tmp_path: Path, model: str) -> None:
    changes = {"train__ema": 0.9, "augment__mixup": 0.5, "augment__translate": 1, "model__dropout": 0.1}
    whole = two.run(train, folder, model, changes, 20)
    resumed = two.run(train_interrupted, folder, model, changes, tmp_path / "train.pt")
    for (weights, history, drawn), (found, again, state) in zip(whole, resumed, strict=True):
        assert all(found[name].equal(value) for name, value in weights.items())
        assert (again, state) == (history, drawn)


def test_one_that_resumes_alone_is_refused(two: Group, folder: Path, tmp_path: Path) -> None:
    two.run(train_interrupted, folder, "mlp", {}, tmp_path / "train.pt")
    said = two.run(resume_without_a_shared_folder, folder, tmp_path / "train.pt")
    assert said[0] == said[1]
    assert "disagree on the epochs in the checkpoint: process 0 has 3, process 1 has 0" in said[0]


# --- agreement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"train.lr": 0.2}, "train.lr: process 0 has 0.1, process 2 has 0.2"),
        ({"the version of torch": "2"}, "the version of torch: process 0 has '1', process 2 has '2'"),
        ({"the dataset's fingerprint": "b"}, "the dataset's fingerprint: process 0 has 'a', process 2 has 'b'"),
        ({"of another version": 1}, "of another version: process 0 has None, process 2 has 1"),
    ],
)
def test_what_a_process_knows_otherwise_is_named(three: Group, changed: dict[str, Any], told: str) -> None:
    facts = {"the version of torch": "1", "the dataset's fingerprint": "a", "train.lr": 0.1}
    (line,) = set(three.run(disagree, facts, facts, facts | changed))
    assert line == f"the processes of this training disagree on {told}; give all of them the same files and packages"


def test_processes_that_know_the_same_go_on(three: Group) -> None:
    assert set(three.run(disagree, {"a": 1}, {"a": 1}, {"a": 1})) == {""}
